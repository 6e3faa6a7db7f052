use std::collections::HashSet;

use addernet_data::{DatasetKind, Split};
use addernet_quant::Tuning;

use super::*;
use crate::testing::lenet;

fn training(model: &Model) -> Images {
    Images::open(model, DatasetKind::Shapes, None, Split::Train, None).unwrap()
}

fn redistribution(bits: u8, groups: usize) -> MethodSettings {
    MethodSettings::Redistribution(Redistribution {
        bits,
        groups,
        weight_clamp: true,
    })
}

/// Few images, so that the tests are quick.
fn options(method: MethodSettings) -> QuantizeOptions {
    QuantizeOptions {
        calibration_images: 200,
        bn_images: 300,
        seed: 3,
        ..QuantizeOptions::new(method)
    }
}

fn run(options: &QuantizeOptions, threads: usize) -> Quantization {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let model = lenet();
        let kernel = addernet_kernels::select(None).unwrap();
        quantize(&model, &training(&model), options, kernel, &()).unwrap()
    })
}

/// Fails the test if any long work begins.
struct NoWork;

impl Progress for NoWork {
    fn begin(&self, stage: Stage, _: usize) {
        panic!("{stage:?} began");
    }
}

fn refusal(method: MethodSettings) -> String {
    let model = lenet();
    let kernel = addernet_kernels::select(None).unwrap();
    quantize(&model, &training(&model), &options(method), kernel, &NoWork)
        .unwrap_err()
        .to_string()
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let options = options(redistribution(4, 4));
    let (one, three) = (run(&options, 1), run(&options, 3));
    assert_eq!(one.observations, three.observations);
    assert_eq!(one.result().layers(), three.result().layers());
    assert_eq!(
        one.result().model().parameters(),
        three.result().model().parameters()
    );
    let other = run(&QuantizeOptions { seed: 4, ..options }, 1);
    assert_ne!(one.observations, other.observations);
}

#[test]
fn bn_reestimation_changes_statistics_and_nothing_else() {
    let both = run(&options(redistribution(4, 4)), 2);
    let (before, after) = (&both.without_bn_reestimation, both.result());
    assert_eq!(
        (before.provenance().bn_images, after.provenance().bn_images),
        (0, 300)
    );
    assert_eq!(before.layers(), after.layers());
    for (name, values) in before.model().parameters() {
        let same = after.model().parameters()[name] == values;
        assert_eq!(same, !name.contains(".running_"), "{name}");
    }
    let none = run(
        &QuantizeOptions {
            bn_images: 0,
            ..options(redistribution(4, 4))
        },
        2,
    );
    assert!(none.with_bn_reestimation.is_none());
    assert_eq!(
        none.result().model().parameters(),
        before.model().parameters()
    );
}

#[test]
fn the_quantized_model_tells_how_it_was_made_and_what_it_sees() {
    let made = run(
        &options(MethodSettings::SharedScale(SharedScale { bits: 8 })),
        2,
    );
    let expected = Provenance {
        method: "shared-scale".into(),
        weight_bits: 8,
        activation_bits: 8,
        groups: 1,
        weight_clamp: false,
        outlier_quantile: 1.0,
        calibration_images: 200,
        bn_images: 300,
        seed: 3,
        reconstruction: None,
    };
    assert_eq!(made.result().provenance(), &expected);
    let info = made.result().model().info();
    assert_eq!(info.class_names[0], "circle");
    assert_eq!(info.preprocessing.as_ref().unwrap().mean, [0.5; 3]);
    assert_eq!(
        QuantizeOptions::new(redistribution(4, 4)).outlier_quantile,
        0.9997
    );
}

#[test]
fn impossible_settings_are_refused_before_any_work() {
    for bits in [0, 1, 9] {
        let reason = format!("must be 2 to 8, got {bits}");
        assert!(refusal(redistribution(bits, 4)).contains(&reason));
        assert!(refusal(MethodSettings::SharedScale(SharedScale { bits })).contains(&reason));
    }
    let error = refusal(redistribution(4, 17));
    assert!(
        error.contains("conv2") && error.contains("16 kernels"),
        "{error}"
    );
    assert!(refusal(redistribution(4, 0)).contains("groups"));
}

#[test]
fn too_few_training_images_are_an_error() {
    let model = lenet();
    let kernel = addernet_kernels::select(None).unwrap();
    let options = QuantizeOptions {
        calibration_images: 10_001,
        ..options(redistribution(4, 4))
    };
    let error = quantize(&model, &training(&model), &options, kernel, &()).unwrap_err();
    assert!(
        error.to_string().contains("ask for 10000 or fewer"),
        "{error}"
    );
}

#[test]
fn bn_batches_go_through_the_epochs_in_about_equal_parts() {
    let images = training(&lenet());
    let dataset = images.dataset();
    let exact: Vec<_> = bn_batches(dataset, 256, 0).collect();
    assert_eq!(
        exact.iter().map(|(_, b)| b.len()).collect::<Vec<_>>(),
        [128, 128]
    );
    // No batch of one image, which has no variance.
    let odd: Vec<_> = bn_batches(dataset, 257, 0).collect();
    assert_eq!(
        odd.iter().map(|(_, b)| b.len()).collect::<Vec<_>>(),
        [85, 86, 86]
    );

    let epochs: Vec<_> = bn_batches(dataset, 10_300, 0).collect();
    let of_epoch = |epoch: u64| -> Vec<usize> {
        epochs
            .iter()
            .filter(|(e, _)| *e == epoch)
            .flat_map(|(_, b)| b.clone())
            .collect()
    };
    assert_eq!(of_epoch(0).iter().collect::<HashSet<_>>().len(), 10_000);
    assert_eq!(of_epoch(1).len(), 300);
    assert_eq!(of_epoch(1), shuffled_indices(dataset, 0, 1)[..300]);
    assert!(
        epochs
            .iter()
            .all(|(e, b)| *e < 2 && b.len() <= CALIBRATION_BATCH)
    );
}

/// Squared error of the quantized network's logits over the float one's variance, on test images.
fn logits_error(settings: Reconstruction) -> f32 {
    let model = lenet();
    let kernel = addernet_kernels::select(None).unwrap();
    let options = QuantizeOptions {
        calibration_images: 256,
        ..QuantizeOptions::new(MethodSettings::Reconstruction(settings))
    };
    let quantization = quantize(&model, &training(&model), &options, kernel, &()).unwrap();
    let test = Images::open(&model, DatasetKind::Shapes, None, Split::Test, None).unwrap();
    let indices = test.first(Some(256));
    let images = test
        .batches(&indices, 256)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .images;
    let simulator = Simulator::new(quantization.result(), kernel).unwrap();
    let found = simulator.run(images.clone()).unwrap();
    let float = Executor::new(&model, kernel).unwrap().run(images).unwrap();
    let mean = float.mean_axis(ndarray::Axis(0)).unwrap();
    let variance = (&float - &mean).mapv(|v| v * v).sum();
    (found - &float).mapv(|v| v * v).sum() / variance
}

#[test]
fn every_ingredient_of_the_reconstruction_lowers_the_error_at_two_bits() {
    let with = |scale_search, correction, epochs: usize| {
        let mut settings = Reconstruction::new(2, 2);
        settings.scale_search = scale_search;
        settings.correction = correction;
        settings.tuning.steps = epochs * 256 / Tuning::BATCH;
        logits_error(settings)
    };
    let errors = [
        with(false, false, 0),
        with(false, true, 0),
        with(true, true, 0),
        with(true, true, 6),
    ];
    assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
}
