use addernet_data::{DatasetKind, Split};
use addernet_quant::{Redistribution, SharedScale};

use super::*;
use crate::images::Images;
use crate::quantize::{MethodSettings, Quantization, QuantizeOptions, quantize};
use crate::testing::lenet;

fn quantized(method: MethodSettings) -> Quantization {
    let model = lenet();
    let images = Images::open(&model, DatasetKind::Shapes, None, Split::Train, None).unwrap();
    let options = QuantizeOptions {
        calibration_images: 100,
        bn_images: 0,
        ..QuantizeOptions::new(method)
    };
    quantize(
        &model,
        &images,
        &options,
        addernet_kernels::select(None).unwrap(),
        &(),
    )
    .unwrap()
}

fn redistribution() -> Quantization {
    let method = Redistribution {
        bits: 4,
        groups: 4,
        weight_clamp: true,
    };
    quantized(MethodSettings::Redistribution(method))
}

#[test]
fn a_float_model_alone_has_shapes_and_weights() {
    let report = inspect(&AnyModel::Float(lenet()), None).unwrap();
    assert_eq!(
        (report.architecture.as_str(), report.classes),
        ("lenet5-bn", 10)
    );
    let names: Vec<&str> = report
        .layers
        .iter()
        .map(|layer| layer.node.as_str())
        .collect();
    assert_eq!(names, ["conv2", "conv3", "fc1"]);
    let conv2 = &report.layers[0];
    assert_eq!(
        (conv2.kernel, conv2.input_map, conv2.output_map),
        ([5, 5], [14, 14], [10, 10])
    );
    assert_eq!(
        (conv2.weights, conv2.terms),
        (6 * 16 * 25, 6 * 16 * 25 * 100)
    );
    assert!(conv2.weight_min < -19.9 && conv2.weight_max > 19.9);
    assert_eq!(report.terms, 6 * 16 * 25 * 100 + 16 * 120 * 25 + 120 * 84);
    let json = serde_json::to_value(&report).unwrap();
    let layer = json["layers"][0].as_object().unwrap();
    for absent in ["activations", "weight_shares", "bias", "quantization"] {
        assert!(!layer.contains_key(absent), "{absent}");
    }
    assert!(json.get("weight_shares").is_none() && json.get("quantization").is_none());
}

#[test]
fn with_observations_weights_are_counted_against_the_activation_range() {
    let observations = redistribution().observations;
    let model = lenet();
    let report = inspect(&AnyModel::Float(model.clone()), Some(&observations)).unwrap();
    let mut outside = 0;
    for layer in &report.layers {
        let node = model.graph().node(&layer.node).unwrap();
        let weights = model.values(node, "adder").unwrap();
        let bound = observations.layers[&layer.node].bound;
        let share = |test: &dyn Fn(f32) -> bool| {
            weights.iter().filter(|w| test(**w)).count() as f64 / weights.len() as f64
        };
        let expected = WeightShares {
            below: share(&|w| w < 0.0),
            inside: share(&|w| (0.0..=bound).contains(&w)),
            above: share(&|w| w > bound),
        };
        assert_eq!(layer.weight_shares, Some(expected), "{}", layer.node);
        let activations = layer.activations.unwrap();
        assert_eq!((activations.low, activations.bound), (0.0, bound));
        // What lies outside is what the clamp turns into a bias.
        let moved: f64 = weights
            .iter()
            .map(|w| f64::from((w - w.clamp(0.0, bound)).abs()))
            .sum();
        let bias = layer.bias.unwrap();
        assert!((bias.mean * layer.out_channels as f64 + moved).abs() < 1e-6 * moved);
        assert!(bias.min <= bias.mean as f32 && bias.mean as f32 <= bias.max && bias.max <= 0.0);
        outside += weights
            .iter()
            .filter(|w| !(0.0..=bound).contains(*w))
            .count();
    }
    let shares = report.weight_shares.unwrap();
    let weights: usize = report.layers.iter().map(|layer| layer.weights).sum();
    assert!((shares.below + shares.above - outside as f64 / weights as f64).abs() < 1e-12);
    assert!((shares.below + shares.inside + shares.above - 1.0).abs() < 1e-12);
}

#[test]
fn a_quantized_model_brings_its_ranges_codes_and_scales() {
    let made = redistribution();
    let model = AnyModel::Quantized(made.result().clone());
    let report = inspect(&model, None).unwrap();
    assert_eq!(
        report.quantization.as_ref().unwrap().method,
        "redistribution"
    );
    for layer in &report.layers {
        let quantization = layer.quantization.as_ref().unwrap();
        assert_eq!(
            (quantization.weight_bits, quantization.activation_bits),
            (4, 4)
        );
        assert_eq!(quantization.groups, quantization.scales.len());
        assert!((1..=4).contains(&quantization.groups));
        assert_eq!(
            layer.activations.unwrap().bound,
            made.observations.layers[&layer.node].bound
        );
        // The clamp's bias is there, and no weight is left above the range.
        assert!(layer.bias.unwrap().max < 0.0);
        assert_eq!(layer.weight_shares.unwrap().above, 0.0);
        assert!(quantization.saturated > 0.0);
    }
    let baseline = quantized(MethodSettings::SharedScale(SharedScale { bits: 8 }));
    let report = inspect(&AnyModel::Quantized(baseline.result().clone()), None).unwrap();
    assert!(
        report
            .layers
            .iter()
            .all(|layer| layer.bias.unwrap().min == 0.0)
    );
    assert!(
        report
            .layers
            .iter()
            .all(|layer| layer.weight_shares.unwrap().above > 0.0)
    );
}

#[test]
fn observations_of_another_network_are_an_error() {
    let mut observations = redistribution().observations;
    observations.layers.remove("conv3");
    let error = inspect(&AnyModel::Float(lenet()), Some(&observations))
        .unwrap_err()
        .to_string();
    assert!(error.contains("conv3"), "{error}");
}
