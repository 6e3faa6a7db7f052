//! A small network with deterministic weights, for the tests of the library and of the command.

use addernet_graph::zoo::Architecture;
use addernet_graph::{FeatureShape, Model, Op};
use ndarray::ArrayD;

/// LeNet-5-BN for 32x32 RGB images and ten classes, as the `shapes` data set has them.
///
/// Its weights are not trained, but every layer's activations vary: each BN is centred on about what
/// the layer before it puts out, which for an adder layer is −1.6 per term.
pub(crate) fn lenet() -> Model {
    let graph = Architecture::LeNet5Bn
        .graph(FeatureShape::new(3, 32, 32), 10)
        .unwrap();
    let mut taps = 0.0;
    let mut parameters = addernet_graph::Parameters::new();
    for (t, node) in graph.nodes().iter().enumerate() {
        let adder = graph.nodes()[*node.inputs().first().unwrap_or(&0)]
            .adder()
            .is_some();
        if let Op::AdderConv(conv) | Op::Conv(conv) = node.op() {
            taps = (conv.in_channels * conv.kernel[0] * conv.kernel[1]) as f32;
        }
        for (name, shape) in node.parameters() {
            let wave = |i: usize| (0.61 * i as f64 + t as f64).sin() as f32;
            let value = |i: usize| match name.rsplit('.').next().unwrap_or_default() {
                "adder" => 4.0 * wave(i).powi(3),
                "running_mean" if adder => taps * (-1.6 + 0.2 * wave(i)),
                "running_mean" => 0.1 * wave(i),
                "running_var" if adder => (0.2 * taps).powi(2),
                "running_var" => taps * (0.1 + 0.02 * wave(i)),
                "weight" if shape.len() == 1 => 1.0 + 0.2 * wave(i),
                "weight" => wave(i),
                _ => 0.3 * wave(i),
            };
            let len = shape.iter().product();
            let values = (0..len).map(value).collect();
            parameters.insert(name, ArrayD::from_shape_vec(shape, values).unwrap());
        }
    }
    Model::new(graph, parameters).unwrap()
}
