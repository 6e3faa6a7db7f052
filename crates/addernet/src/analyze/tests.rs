use addernet_data::{DatasetKind, Split};
use addernet_quant::MethodKind;

use super::*;
use crate::sweep::method_settings;
use crate::testing::lenet;

fn options() -> AnalyzeOptions {
    let settings = method_settings(MethodKind::Redistribution, [4, 4], 2);
    AnalyzeOptions {
        quantize: QuantizeOptions {
            calibration_images: 60,
            ..QuantizeOptions::new(settings)
        },
        images: 40,
    }
}

fn training(model: &Model) -> Images {
    Images::open(model, DatasetKind::Shapes, None, Split::Train, None).unwrap()
}

fn run(model: &AnyModel, reference: Option<&Model>, images: bool) -> Result<Analysis, Error> {
    let training = training(model.float());
    let kernel = addernet_kernels::select(None).unwrap();
    let training = images.then_some(&training);
    analyze(model, reference, training, &options(), kernel, &())
}

#[test]
fn every_value_is_counted_once() {
    let analysis = run(&AnyModel::Float(lenet()), None, true).unwrap();
    assert_eq!(analysis.distributions.len(), 3);
    for (found, layer) in analysis.distributions.iter().zip(&analysis.model.layers) {
        assert_eq!(found.node, layer.node);
        assert_eq!(found.axis.edges.len(), found.weights.len() + 1);
        assert_eq!(found.weights.iter().sum::<u64>(), layer.weights as u64);
        let [height, width] = layer.input_map;
        let values = 40 * height * width * layer.in_channels;
        let activations = found.activations.as_ref().unwrap();
        assert_eq!(activations.iter().sum::<u64>(), values as u64);
        // Nothing is negative behind a ReLU.
        let zero = found.axis.edges.iter().position(|&e| e == 0.0).unwrap();
        assert_eq!(activations[..zero].iter().sum::<u64>(), 0);
        // Below the range is what is below 0.
        let below = found.weights[..zero].iter().sum::<u64>() as f64 / layer.weights as f64;
        assert!((below - layer.weight_shares.unwrap().below).abs() < 1e-9);
        let codes = found.codes.as_ref().unwrap();
        assert_eq!((codes.first, codes.counts.len()), (-8, 16));
        assert_eq!(codes.counts.iter().sum::<u64>(), layer.weights as u64);
        assert!(!found.scales.is_empty() && found.scales.is_sorted());
    }
    let report = analysis.sensitivity.unwrap();
    assert_eq!(report.quantization.bn_images, 0);
    assert_eq!(report.sensitivity.images, 40);
    assert_eq!(report.sensitivity.layers.len(), 3);
    assert!(report.sensitivity.float_top1.is_some());
}

#[test]
fn a_quantized_model_needs_the_float_one_to_be_compared() {
    let float = lenet();
    let kernel = addernet_kernels::select(None).unwrap();
    let made = quantize(&float, &training(&float), &options().quantize, kernel, &()).unwrap();
    let model = AnyModel::Quantized(made.without_bn_reestimation);
    let alone = run(&model, None, true).unwrap();
    assert!(alone.sensitivity.is_none() && alone.distributions[0].activations.is_some());
    let compared = run(&model, Some(&float), true).unwrap();
    // The very layers that analysing the float model would make.
    let of_float = run(&AnyModel::Float(float), None, true).unwrap();
    let (a, b) = (compared.sensitivity.unwrap(), of_float.sensitivity.unwrap());
    assert_eq!(a.sensitivity, b.sensitivity);
    assert_eq!(
        compared.distributions[0].weights.iter().sum::<u64>(),
        of_float.distributions[0].weights.iter().sum::<u64>()
    );
}

#[test]
fn without_images_there_are_only_weights() {
    let analysis = run(&AnyModel::Float(lenet()), None, false).unwrap();
    assert!(analysis.sensitivity.is_none());
    for found in &analysis.distributions {
        assert!(found.activations.is_none() && found.range.is_none() && found.codes.is_none());
        assert!(found.axis.unit.is_none() && found.scales.is_empty());
    }
}

#[test]
fn axes_cover_their_ends_and_have_a_border_at_zero() {
    for (low, high, unit) in [
        (-58.0, 70.0, Some(0.8)),
        (0.0, 3.0, None),
        (-2.0, -1.0, None),
        (0.0, 0.0, Some(1.0)),
        (5.0, 5.0, Some(0.0)),
    ] {
        let axis = Axis::new(low, high, unit);
        assert!(axis.edges.contains(&0.0), "{axis:?}");
        assert!(axis.edges.windows(2).all(|pair| pair[0] < pair[1]));
        let (first, last) = (axis.edges[0], axis.edges[axis.edges.len() - 1]);
        let slack = 1e-6 * f64::from(high - low).max(1.0);
        assert!(first <= f64::from(low) + slack && f64::from(high) <= last + slack);
        assert_eq!(axis.count(&[low, high, 0.0]).iter().sum::<u64>(), 3);
    }
}
