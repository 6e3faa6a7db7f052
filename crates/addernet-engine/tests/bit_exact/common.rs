//! Quantized models to try.

use std::collections::BTreeMap;

use addernet_engine::{Engine, Program, reference};
use addernet_graph::{Graph, Model, ModelInfo, Op, Parameters, Preprocessing};
use addernet_kernels::available_u8;
use addernet_quant::{
    ActivationRange, Method, Observations, Provenance, QuantizedModel, calibrate,
};
use ndarray::{Array4, ArrayD};
use rayon::prelude::*;

/// Numbers of a linear congruential generator.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// From 0 to `end`, without it.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    /// From −1 to 1.
    pub(crate) fn real(&mut self) -> f32 {
        self.next() as f32 / u32::MAX as f32 * 2.0 - 1.0
    }

    /// Pixels, many of them black or white.
    pub(crate) fn pixels(&mut self, len: usize) -> Vec<u8> {
        let mut pixel = || match self.below(8) {
            0 => 0,
            1 => 255,
            _ => self.next() as u8,
        };
        (0..len).map(|_| pixel()).collect()
    }
}

/// Random weights; BN statistics are what the layers before them put out on some random images.
pub(crate) fn model(graph: Graph, numbers: &mut Numbers) -> Model {
    let mut parameters = Parameters::new();
    for node in graph.nodes() {
        for (name, shape) in node.parameters() {
            let fan_in: usize = shape[1..].iter().product();
            let mut value = |i: usize| match name.rsplit('.').next() {
                Some("running_var") => 1.0 + numbers.real(),
                Some("running_mean") => numbers.real(),
                Some("adder") if i.is_multiple_of(5) => 20.0 * numbers.real(),
                Some("adder") => 1.0 + 2.0 * numbers.real(),
                _ if matches!(node.op(), Op::BatchNorm { .. }) => 0.7 + 0.6 * numbers.real(),
                _ => 3.0 * numbers.real() / (fan_in as f32).sqrt(),
            };
            let values = (0..shape.iter().product()).map(&mut value).collect();
            parameters.insert(name, ArrayD::from_shape_vec(shape, values).unwrap());
        }
    }
    let channels = graph.input_shape().channels;
    let preprocessing = Preprocessing {
        mean: (0..channels).map(|c| 0.4 + 0.05 * c as f32).collect(),
        std: (0..channels).map(|c| 0.2 + 0.03 * c as f32).collect(),
    };
    let info = ModelInfo {
        preprocessing: Some(preprocessing),
        ..ModelInfo::default()
    };
    let model = Model::new(graph, parameters)
        .unwrap()
        .with_info(info)
        .unwrap();
    with_statistics(model, numbers)
}

/// Normalised images.
pub(crate) fn images(graph: &Graph, count: usize, numbers: &mut Numbers) -> Array4<f32> {
    let shape = graph.input_shape();
    let dim = (count, shape.height, shape.width, shape.channels);
    Array4::from_shape_fn(dim, |_| 2.0 * numbers.real())
}

/// Puts the mean and the variance of each BN layer's input in its place, as training would.
fn with_statistics(model: Model, numbers: &mut Numbers) -> Model {
    use addernet_graph::{Executor, Hook, HookError, Node, NodeId};

    struct Statistics(BTreeMap<String, ArrayD<f32>>);
    impl Hook for Statistics {
        fn replace(
            &mut self,
            _: NodeId,
            node: &Node,
            inputs: &[&Array4<f32>],
        ) -> Result<Option<Array4<f32>>, HookError> {
            let (Op::BatchNorm { channels, .. }, [x]) = (node.op(), inputs) else {
                return Ok(None);
            };
            let count = (x.len() / channels) as f32;
            let mut y = (*x).clone();
            let (mut means, mut vars) = (Vec::new(), Vec::new());
            for c in 0..*channels {
                let channel = x.slice(ndarray::s![.., .., .., c]);
                let mean = channel.sum() / count;
                let var = channel.mapv(|v| (v - mean) * (v - mean)).sum() / count;
                y.slice_mut(ndarray::s![.., .., .., c])
                    .mapv_inplace(|v| (v - mean) / (var + 1e-3).sqrt());
                means.push(mean);
                vars.push(var);
            }
            for (suffix, values) in [("running_mean", means), ("running_var", vars)] {
                let values = ndarray::Array1::from(values).into_dyn();
                self.0.insert(node.parameter(suffix), values);
            }
            Ok(Some(y))
        }
    }
    let mut statistics = Statistics(BTreeMap::new());
    let images = images(model.graph(), 4, numbers);
    let executor = Executor::new(&model, addernet_kernels::select(None).unwrap()).unwrap();
    executor.run_with(images, &mut statistics).unwrap();
    drop(executor);
    let (graph, mut parameters, info) = model.into_parts();
    parameters.extend(statistics.0);
    Model::new(graph, parameters)
        .unwrap()
        .with_info(info)
        .unwrap()
}

pub(crate) fn provenance() -> Provenance {
    serde_json::from_value(serde_json::json!({
        "method": "redistribution", "weight_bits": 8, "activation_bits": 8, "groups": 1,
        "weight_clamp": true, "outlier_quantile": 1.0, "calibration_images": 4, "bn_images": 0, "seed": 0
    }))
    .unwrap()
}

/// Calibrates on random images and quantizes.
pub(crate) fn quantize(
    model: &Model,
    method: &dyn Method,
    numbers: &mut Numbers,
) -> QuantizedModel {
    let batch: Result<_, std::io::Error> = Ok(images(model.graph(), 4, numbers));
    let executor =
        addernet_graph::Executor::new(model, addernet_kernels::select(None).unwrap()).unwrap();
    let mut observations: Observations = calibrate(&executor, [batch], 1.0).unwrap();
    // What is never positive has no range; any other will do.
    for range in observations.layers.values_mut() {
        if range.bound <= 0.0 {
            *range = ActivationRange {
                min: 0.0,
                max: 1.0,
                bound: 1.0,
            };
        }
    }
    QuantizedModel::quantize(model, &observations, method, provenance()).unwrap()
}

/// The logits of `pixels` by the reference, after having found that every kernel gives the same for a batch
/// that holds them `repeat` times.
pub(crate) fn same_logits_everywhere(
    quantized: &QuantizedModel,
    pixels: &[u8],
    repeat: usize,
    threads: &[usize],
) -> Vec<i32> {
    let program = Program::lower(quantized).unwrap();
    let per_image = program.graph().input_shape().values();
    let expected: Vec<i32> = pixels
        .par_chunks_exact(per_image)
        .flat_map_iter(|image| reference::logits(&program, image).unwrap())
        .collect();
    let batch = pixels.repeat(repeat);
    let all = expected.repeat(repeat);
    for &kernel in available_u8() {
        let engine = Engine::from_program(program.clone(), kernel).unwrap();
        for &threads in threads {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            // Twice, with the memory that the first run left behind.
            for _ in 0..2 {
                let logits = pool.install(|| engine.run(&batch[..])).unwrap();
                assert!(
                    logits.values() == all,
                    "{} with {threads} thread(s)",
                    kernel.name()
                );
            }
        }
    }
    expected
}
