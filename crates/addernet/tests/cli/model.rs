//! A small network with deterministic weights, for the tests of the library and of the command.

use addernet_data::{
    Dataset, DatasetKind, OpenOptions, Split, Transform, batches, sequential_indices,
};
use addernet_graph::zoo::Architecture;
use addernet_graph::{
    Executor, FeatureShape, Hook, HookError, Model, Node, NodeId, Op, Parameters,
};
use ndarray::{Array4, ArrayD, Axis};

/// LeNet-5-BN for 32x32 RGB images and ten classes, as the `shapes` data set has them.
///
/// Its weights are not trained, but its BN statistics are those of shapes, so that every layer is alive.
pub(crate) fn lenet() -> Model {
    let graph = Architecture::LeNet5Bn
        .graph(FeatureShape::new(3, 32, 32), 10)
        .unwrap();
    let weight = |(t, (name, shape)): (usize, (String, Vec<usize>))| {
        let wave = |i: usize| (0.61 * i as f64 + t as f64).sin() as f32;
        let value = |i| match name.rsplit('.').next().unwrap_or_default() {
            "adder" => 20.0 * wave(i).powi(3),
            "weight" if shape.len() == 1 => 1.0 + 0.2 * wave(i),
            "running_var" => 1.0,
            _ => 0.3 * wave(i),
        };
        let values = (0..shape.iter().product()).map(value).collect();
        (
            name.clone(),
            ArrayD::from_shape_vec(shape.clone(), values).unwrap(),
        )
    };
    let parameters: Parameters = graph.parameters().enumerate().map(weight).collect();
    let model = Model::new(graph.clone(), parameters.clone()).unwrap();
    let mut statistics = Statistics {
        model: &model,
        parameters,
    };
    let executor = Executor::new(&model, addernet_kernels::select(None).unwrap()).unwrap();
    executor.run_with(shapes(50), &mut statistics).unwrap();
    Model::new(graph, statistics.parameters).unwrap()
}

fn shapes(count: usize) -> Array4<f32> {
    let options = OpenOptions::default();
    let dataset = Dataset::open(DatasetKind::Shapes, None, Split::Train, &options).unwrap();
    let transform = Transform::eval(DatasetKind::Shapes);
    let indices = sequential_indices(&dataset, Some(count));
    batches(&dataset, &indices, count, &transform)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .images
}

/// Normalises each BN's input by its own statistics, and keeps them as parameters.
struct Statistics<'m> {
    model: &'m Model,
    parameters: Parameters,
}

impl Hook for Statistics<'_> {
    fn replace(
        &mut self,
        _: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<Option<Array4<f32>>, HookError> {
        let Op::BatchNorm { channels, .. } = node.op() else {
            return Ok(None);
        };
        let mut y = inputs[0].to_owned();
        let (weight, bias) = (
            self.model.values(node, "weight")?,
            self.model.values(node, "bias")?,
        );
        let (mut means, mut variances) = (Vec::new(), Vec::new());
        for (c, mut values) in y.axis_iter_mut(Axis(3)).enumerate() {
            let mean = values.mean().unwrap();
            let variance = values.mapv(|v| (v - mean).powi(2)).mean().unwrap();
            values.mapv_inplace(|v| (v - mean) / variance.sqrt() * weight[c] + bias[c]);
            means.push(mean);
            variances.push(variance);
        }
        for (suffix, values) in [("running_mean", means), ("running_var", variances)] {
            let values = ArrayD::from_shape_vec(vec![*channels], values).unwrap();
            self.parameters.insert(node.parameter(suffix), values);
        }
        Ok(Some(y))
    }
}
