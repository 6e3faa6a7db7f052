use addernet_graph::{FeatureShape, GraphBuilder, ModelInfo, Preprocessing};
use ndarray::ArrayD;

use super::*;
use crate::testing;

fn rounded(model: &Model) -> Vec<f32> {
    let rounded = round_ordinary(model).unwrap();
    let node = &rounded.graph().nodes()[1];
    rounded.values(node, "weight").unwrap().to_vec()
}

#[test]
fn each_kernel_of_the_image_is_a_multiple_of_its_own_step_per_pixel() {
    let std = [0.25f32, 0.5, 0.125];
    let pixels = Preprocessing {
        mean: vec![0.5; 3],
        std: std.to_vec(),
    };
    let model = testing::model();
    let info = ModelInfo {
        preprocessing: Some(pixels),
        ..ModelInfo::default()
    };
    let model = model.with_info(info).unwrap();
    let float = model.values(&model.graph().nodes()[1], "weight").unwrap();
    let values = rounded(&model);
    assert_ne!(values, float);
    for (kernel, float) in values.chunks(27).zip(float.chunks(27)) {
        let per_pixel = |(tap, w): (usize, &f32)| f64::from(*w) / f64::from(std[tap / 9]);
        let of_float = float.iter().enumerate().map(per_pixel);
        let step = of_float.clone().fold(0.0f64, |m, w| m.max(w.abs())) / 127.0;
        for (w, float) in kernel.iter().enumerate().map(per_pixel).zip(of_float) {
            let code = w / step;
            assert!((code - code.round()).abs() < 1e-4, "{code}");
            assert!((w - float).abs() <= step * 0.5001, "{w} {float}");
        }
    }
}

#[test]
fn rounding_twice_changes_nothing_and_adder_layers_are_left_alone() {
    let model = testing::model();
    let once = round_ordinary(&model).unwrap();
    let twice = round_ordinary(&once).unwrap();
    assert_eq!(rounded(&once), rounded(&model));
    assert_eq!(twice.parameters(), once.parameters());
    for (name, values) in model.parameters() {
        assert_eq!(
            once.parameters()[name] == values,
            name != "conv1.weight",
            "{name}"
        );
    }
}

#[test]
fn classifiers_are_rounded_row_by_row() {
    let mut b = GraphBuilder::new("classifier", FeatureShape::new(4, 1, 1));
    let linear = Op::Linear {
        in_features: 4,
        out_features: 2,
        bias: false,
    };
    b.add("flatten", Op::Flatten, &["input"]).unwrap();
    b.add("fc", linear, &["flatten"]).unwrap();
    let weights = [1.27f32, 0.014, -0.016, -1.0, 0.0, 0.0, 0.0, 0.0];
    let array = ArrayD::from_shape_vec(vec![2, 4], weights.to_vec()).unwrap();
    let parameters = [("fc.weight".to_owned(), array)].into();
    let model = Model::new(b.build().unwrap(), parameters).unwrap();
    let rounded = round_ordinary(&model).unwrap();
    let values = rounded.parameters()["fc.weight"].iter();
    let expected = [1.27f32, 0.01, -0.02, -1.0, 0.0, 0.0, 0.0, 0.0];
    for (value, expected) in values.zip(expected) {
        assert!((value - expected).abs() < 1e-6, "{value} {expected}");
    }
}
