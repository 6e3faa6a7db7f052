//! The module against the graph's executor, and the ordinary layers' gradients against finite differences.

use addernet_graph::{
    ConvAttributes, Executor, FeatureShape, GraphBuilder, PoolAttributes, zoo::Architecture,
};
use burn::module::Module;
use burn::tensor::TensorData;
use ndarray::Array4;

use super::*;
use crate::init::initial_model;

/// A number in [−1, 1) for a place.
fn noise(i: usize, salt: usize) -> f32 {
    let hash = (i as u64 * 31 + salt as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((hash >> 40) as f32 / (1_u64 << 23) as f32) - 1.0
}

/// The initial model, with BN parameters and statistics as after some training.
fn model(graph: Graph) -> Model {
    let (graph, mut parameters, _) = initial_model(graph, 7).unwrap().into_parts();
    for (salt, (name, values)) in parameters.iter_mut().enumerate() {
        let (scale, offset) = match name.rsplit('.').next() {
            Some("running_mean") => (3.0, -5.0),
            Some("running_var") => (0.5, 2.0),
            Some("bias") => (0.3, 0.0),
            Some("weight") if values.ndim() == 1 => (0.3, 1.0),
            _ => continue,
        };
        for (i, v) in values.iter_mut().enumerate() {
            *v = offset + scale * noise(i, salt);
        }
    }
    Model::new(graph, parameters).unwrap()
}

fn images(count: usize, shape: FeatureShape) -> Array4<f32> {
    let mut i = 0;
    Array4::from_shape_simple_fn((count, shape.height, shape.width, shape.channels), || {
        i += 1;
        noise(i, 99)
    })
}

fn tensor(images: &Array4<f32>, device: &Device) -> Tensor<4> {
    let (n, h, w, c) = images.dim();
    let values: Vec<f32> = images.iter().copied().collect();
    Tensor::from_data(TensorData::new(values, [n, h, w, c]), device)
}

/// A graph with every ordinary operation, and an adder convolution with a bias if `adder`.
fn every_operation(adder: bool) -> Graph {
    let mut b = GraphBuilder::new("every-operation", FeatureShape::new(2, 9, 9));
    let conv = ConvAttributes::square(2, 6, 3, 1, 1).with_bias();
    let x = b.add("conv", Op::Conv(conv), &["input"]).unwrap();
    let norm = |channels| Op::BatchNorm {
        channels,
        eps: 1e-5,
    };
    let x = b.add("bn", norm(6), &[&x]).unwrap();
    let relu = b.add("relu", Op::Relu, &[&x]).unwrap();
    let conv = ConvAttributes::square(6, 6, 1, 1, 0).with_bias();
    let op = if adder {
        Op::AdderConv(conv)
    } else {
        Op::Conv(conv)
    };
    let x = b.add("second", op, &[&relu]).unwrap();
    let x = b.add("bn2", norm(6), &[&x]).unwrap();
    let x = b.add("add", Op::Add, &[&x, &relu]).unwrap();
    let pool = PoolAttributes::square(3, 2, 1);
    let x = b.add("max", Op::MaxPool(pool), &[&x]).unwrap();
    let x = b.add("avg", Op::AvgPool(pool), &[&x]).unwrap();
    let flat = b.add("flatten", Op::Flatten, &[&x]).unwrap();
    let linear = |i, o| Op::Linear {
        in_features: i,
        out_features: o,
        bias: true,
    };
    let x = b.add("fc", linear(54, 5), &[&flat]).unwrap();
    let y = b.add("pool", Op::GlobalAvgPool, &[&relu]).unwrap();
    let y = b.add("fc2", linear(6, 5), &[&y]).unwrap();
    b.add("sum", Op::Add, &[&x, &y]).unwrap();
    b.build().unwrap()
}

fn assert_equals_the_executor(graph: Graph) {
    let name = graph.name().to_owned();
    let model = model(graph);
    let images = images(2, model.graph().input_shape());
    let executor = Executor::new(&model, addernet_kernels::select(None).unwrap()).unwrap();
    let expected = executor.run(images.clone()).unwrap();
    let device = Device::flex();
    let network = Network::from_model(&model, NetworkOptions::default(), &device).unwrap();
    let logits = network.forward(tensor(&images, &device)).into_data();
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    for (a, b) in logits.as_slice::<f32>().unwrap().iter().zip(&expected) {
        assert!((a - b).abs() <= 2e-5 * largest, "{name}: {a} {b}");
    }
    let back = network.to_model().unwrap();
    assert_eq!(back.parameters(), model.parameters(), "{name}");
}

#[test]
fn logits_equal_the_executors_and_parameters_come_back() {
    let small = |architecture: Architecture, side| {
        let channels = architecture.default_input().channels;
        architecture.graph(FeatureShape::new(channels, side, side), 10)
    };
    assert_equals_the_executor(every_operation(true));
    assert_equals_the_executor(small(Architecture::LeNet5Bn, 32).unwrap());
    assert_equals_the_executor(small(Architecture::ResNet20, 16).unwrap());
    assert_equals_the_executor(small(Architecture::VggSmall, 8).unwrap());
    assert_equals_the_executor(small(Architecture::ResNet18, 32).unwrap());
    assert_equals_the_executor(small(Architecture::ResNet50, 32).unwrap());
}

/// Σ c·logits with fixed c, in training mode.
fn loss(model: &Model, images: &Array4<f32>) -> (f64, Network, Tensor<1>) {
    let device = Device::flex().autodiff();
    let network = Network::from_model(model, NetworkOptions::default(), &device).unwrap();
    let logits = network.forward(tensor(images, &device));
    let [n, classes] = logits.dims();
    let weights: Vec<f32> = (0..n * classes).map(|i| noise(i, 5)).collect();
    let values = logits.to_data();
    let products = values.as_slice::<f32>().unwrap().iter().zip(&weights);
    let value = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [n, classes]), &device);
    (value, network, (logits * weights).sum())
}

#[test]
fn gradients_of_ordinary_layers_agree_with_finite_differences() {
    let model = model(every_operation(false));
    let images = images(4, model.graph().input_shape());
    let (_, network, total) = loss(&model, &images);
    let grads = total.backward();
    struct Collect<'g>(&'g burn::tensor::Gradients, Vec<(ParamId, Vec<f32>)>);
    impl burn::module::ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            if let Some(grad) = param.val().grad(self.0) {
                let grad = grad.into_data();
                self.1.push((param.id, grad.as_slice().unwrap().to_vec()));
            }
        }
    }
    let mut collect = Collect(&grads, Vec::new());
    network.visit(&mut collect);
    let learned = network.learned();
    assert_eq!(collect.1.len(), learned.len());
    for (salt, (name, id)) in learned.into_iter().enumerate() {
        let (_, grad) = collect.1.iter().find(|(i, _)| *i == id).unwrap();
        // Along one direction per parameter.
        let direction: Vec<f32> = (0..grad.len()).map(|i| noise(i, salt)).collect();
        let expected: f64 = grad
            .iter()
            .zip(&direction)
            .map(|(&g, &d)| f64::from(g) * f64::from(d))
            .sum();
        let norm = grad.iter().map(|g| g * g).sum::<f32>().sqrt();
        let moved = |by: f32| {
            let (graph, mut parameters, _) = model.clone().into_parts();
            let values = parameters.get_mut(&name).unwrap();
            values
                .iter_mut()
                .zip(&direction)
                .for_each(|(v, d)| *v += by * d);
            loss(&Model::new(graph, parameters).unwrap(), &images).0
        };
        // Small: ReLU and max pooling have kinks.
        let step = 4e-4;
        let measured = (moved(step) - moved(-step)) / f64::from(2.0 * step);
        let tolerance = 0.01 * f64::from(norm) + 2e-3;
        assert!(
            (measured - expected).abs() < tolerance,
            "{name}: {measured}, backward pass {expected}, norm {norm}"
        );
    }
}

#[test]
fn running_statistics_follow_the_batch_as_in_pytorch() {
    let mut b = GraphBuilder::new("bn", FeatureShape::new(2, 2, 3));
    let norm = Op::BatchNorm {
        channels: 2,
        eps: 1e-5,
    };
    b.add("bn", norm, &["input"]).unwrap();
    let model = model(b.build().unwrap());
    let images = images(3, model.graph().input_shape());
    let device = Device::flex().autodiff();
    let network = Network::from_model(&model, NetworkOptions::default(), &device).unwrap();
    network.forward(tensor(&images, &device));
    let after = network.to_model().unwrap();
    for channel in 0..2 {
        let values: Vec<f64> = images
            .iter()
            .skip(channel)
            .step_by(2)
            .map(|&v| v.into())
            .collect();
        let mean = values.iter().sum::<f64>() / 18.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 17.0;
        for (name, batch) in [("bn.running_mean", mean), ("bn.running_var", variance)] {
            let [before, after] =
                [&model, &after].map(|m| f64::from(m.parameters()[name][channel]));
            let expected = 0.9 * before + 0.1 * batch;
            assert!(
                (after - expected).abs() < 1e-5,
                "{name}: {after} {expected}"
            );
        }
    }
    // In evaluation they stay.
    let network = network.valid();
    network.forward(tensor(&images, &Device::flex()));
    assert_eq!(network.to_model().unwrap().parameters(), after.parameters());
}
