//! The zoo's ImageNet networks against the original PyTorch code: weights from a formula, running
//! statistics and logits from the golden files.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use std::path::PathBuf;

use addernet_graph::zoo::Architecture;
use addernet_graph::{Executor, FeatureShape, Model, Parameters};
use common::skipped;
use ndarray::{Array2, Array4, ArrayD};
use safetensors::SafeTensors;

/// z = sin(0.61·i + t) in f64: the value that all weights derive from.
fn z(i: usize, t: usize) -> f64 {
    (0.61 * i as f64 + t as f64).sin()
}

fn read_f32(file: &SafeTensors<'_>, name: &str) -> ArrayD<f32> {
    let view = file.tensor(name).unwrap();
    let values = view
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    ArrayD::from_shape_vec(view.shape().to_vec(), values).unwrap()
}

fn parameters(keys: &[(String, Vec<usize>)], file: &SafeTensors<'_>) -> Parameters {
    let mut parameters = Parameters::new();
    for (t, (name, shape)) in keys.iter().enumerate() {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        let fan_in: usize = shape.iter().skip(1).product();
        let value: Box<dyn Fn(f64) -> f64> = match name.rsplit('.').next().unwrap() {
            "adder" => Box::new(|z| 2.0 * z),
            "weight" if shape.len() == 4 => Box::new(move |z| z / (fan_in as f64).sqrt()),
            "weight" => Box::new(|z| 1.0 + 0.2 * z),
            "bias" if name == "fc.bias" => Box::new(|z| 0.1 * z),
            "bias" => Box::new(|z| 0.2 * z),
            _ => {
                parameters.insert(name.clone(), read_f32(file, name));
                continue;
            }
        };
        let values = (0..shape.iter().product())
            .map(|i| value(z(i, t)) as f32)
            .collect();
        parameters.insert(
            name.clone(),
            ArrayD::from_shape_vec(shape.clone(), values).unwrap(),
        );
    }
    parameters
}

fn images() -> Array4<f32> {
    let mut images = Array4::zeros((2, 64, 64, 3));
    for ((n, h, w, c), value) in images.indexed_iter_mut() {
        let i = ((n * 3 + c) * 64 + h) * 64 + w;
        *value = (0.37 * i as f64 + 0.11 * (i / 64) as f64).sin() as f32;
    }
    images
}

fn check(architecture: Architecture) {
    let name = format!("{architecture}_imagenet_formula.safetensors");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/golden")
        .join(name);
    let Ok(bytes) = std::fs::read(&path) else {
        skipped(format_args!("no golden file {}", path.display()));
        return;
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let keys = &header.metadata().as_ref().unwrap()["keys"];
    let keys: Vec<(String, Vec<usize>)> = serde_json::from_str(keys).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();

    let graph = architecture
        .graph(FeatureShape::new(3, 64, 64), 10)
        .unwrap();
    let model = Model::new(graph, parameters(&keys, &file)).unwrap();
    let expected: Array2<f32> = read_f32(&file, "logits").into_dimensionality().unwrap();
    for &kernel in addernet_kernels::available() {
        let logits = Executor::new(&model, kernel)
            .unwrap()
            .run(images())
            .unwrap();
        let worst = (&logits - &expected)
            .mapv(f32::abs)
            .into_iter()
            .fold(0.0, f32::max);
        eprintln!(
            "{architecture} on {}: largest difference {worst:.2e}",
            kernel.name()
        );
        assert!(
            worst <= 2e-2,
            "{architecture} on {}: {worst}",
            kernel.name()
        );
    }
}

#[test]
fn resnet18_reproduces_the_original_code() {
    check(Architecture::ResNet18);
}

#[test]
fn resnet50_reproduces_the_original_code() {
    check(Architecture::ResNet50);
}
