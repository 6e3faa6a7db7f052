use std::collections::BTreeMap;

use addernet_graph::{ConvAttributes, FeatureShape, GraphBuilder, GraphError, Model, Op};
use ndarray::{Array4, ArrayD};

use super::*;

/// input → relu → adder convolution.
fn model() -> Model {
    let mut b = GraphBuilder::new("g", FeatureShape::new(1, 2, 2));
    b.add("relu", Op::Relu, &["input"]).unwrap();
    b.add(
        "conv",
        Op::AdderConv(ConvAttributes::square(1, 1, 1, 1, 0)),
        &["relu"],
    )
    .unwrap();
    let weight = ArrayD::ones(vec![1, 1, 1, 1]);
    Model::new(
        b.build().unwrap(),
        BTreeMap::from([("conv.adder".to_owned(), weight)]),
    )
    .unwrap()
}

fn observe(batches: &[[f32; 4]], r: f64) -> Result<Observations, QuantError> {
    let model = model();
    let executor = Executor::new(&model, addernet_kernels::select(None).unwrap()).unwrap();
    let batches = batches.iter().map(|values| {
        Ok::<_, GraphError>(Array4::from_shape_vec((1, 2, 2, 1), values.to_vec()).unwrap())
    });
    calibrate(&executor, batches, r)
}

#[test]
fn the_bound_is_the_running_maximum_of_the_batches_quantiles() {
    let batches = [[-9.0, 1.0, 2.0, 3.0], [0.5, 4.0, 1.0, 2.0]];
    let all = observe(&batches, 1.0).unwrap();
    assert_eq!(
        all.range("conv").unwrap(),
        ActivationRange {
            min: 0.0,
            max: 4.0,
            bound: 4.0
        }
    );
    assert_eq!(all.images, 2);
    // n = 4, r = 0.75: index ⌊(3 − 1)·0.75⌋ = 1 of 0, 1, 2, 3 and of 0.5, 1, 2, 4.
    let clamped = observe(&batches, 0.75).unwrap();
    assert_eq!(
        clamped.range("conv").unwrap(),
        ActivationRange {
            min: 0.0,
            max: 4.0,
            bound: 1.0
        }
    );
}

#[test]
fn the_quantile_is_the_published_one() {
    let mut values: Vec<f32> = (0..10_000).map(|i| ((i * 7919) % 10_000) as f32).collect();
    // ⌊(round(9997) − 1)·0.9997⌋ = ⌊9993.0012⌋.
    assert_eq!(quantile(&mut values, PUBLISHED_OUTLIER_QUANTILE), 9993.0);
    assert_eq!(quantile(&mut values, 1.0), 9999.0);
    assert_eq!(quantile(&mut [5.0], 1e-9), 5.0);
}

#[test]
fn what_cannot_be_observed_is_an_error() {
    for r in [0.0, -1.0, 1.5, f64::NAN] {
        let error = observe(&[[1.0; 4]], r).unwrap_err().to_string();
        assert!(
            error.starts_with("outlier quantile: must be above 0"),
            "{error}"
        );
    }
    assert!(
        observe(&[], 1.0)
            .unwrap_err()
            .to_string()
            .contains("at least one image")
    );
    let error = observe(&[[1.0, f32::INFINITY, 1.0, 1.0]], 1.0)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`conv`") && error.contains("not finite"),
        "{error}"
    );
    let dead = observe(&[[-1.0; 4]], 1.0).unwrap();
    assert!(
        dead.range("conv")
            .unwrap_err()
            .to_string()
            .contains("dead layer")
    );
    assert!(
        dead.range("other")
            .unwrap_err()
            .to_string()
            .contains("not calibrated")
    );
}
