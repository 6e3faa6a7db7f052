use super::*;
use crate::graph::GraphBuilder;
use crate::op::{ConvAttributes, Op};
use crate::shape::FeatureShape;

fn graph() -> Graph {
    let mut b = GraphBuilder::new("g", FeatureShape::new(2, 4, 4));
    b.add(
        "conv",
        Op::AdderConv(ConvAttributes::square(2, 3, 1, 1, 0)),
        &["input"],
    )
    .unwrap();
    b.add(
        "bn",
        Op::BatchNorm {
            channels: 3,
            eps: 1e-5,
        },
        &["conv"],
    )
    .unwrap();
    b.build().unwrap()
}

fn parameters() -> Parameters {
    graph()
        .parameters()
        .map(|(name, shape)| (name, ArrayD::ones(shape)))
        .collect()
}

#[test]
fn every_mismatch_is_listed() {
    let mut parameters = parameters();
    parameters.remove("bn.bias");
    parameters.insert("extra".into(), ArrayD::zeros(vec![1]));
    parameters.insert("conv.adder".into(), ArrayD::zeros(vec![3, 2]));
    let error = Model::new(graph(), parameters).unwrap_err().to_string();
    assert_eq!(
        error,
        "the parameters do not fit the graph `g`: 1 missing (bn.bias); 1 unexpected (extra); \
         1 misshapen (conv.adder: expected [3, 2, 1, 1], found [3, 2])"
    );
}

#[test]
fn damaged_values_are_errors_that_name_the_parameter() {
    let mut damaged = parameters();
    if let Some(values) = damaged.get_mut("conv.adder") {
        values[[2, 1, 0, 0]] = f32::NAN;
        values[[2, 0, 0, 0]] = f32::INFINITY;
    }
    let error = Model::new(graph(), damaged).unwrap_err().to_string();
    assert!(
        error.contains("`conv.adder` of node `conv` holds 2 non-finite value(s)"),
        "{error}"
    );
    assert!(error.contains("flat index 4"), "{error}");

    let mut negative = parameters();
    negative.insert("bn.running_var".into(), ArrayD::from_elem(vec![3], -1.0));
    let error = Model::new(graph(), negative).unwrap_err().to_string();
    assert!(error.contains("negative variance"), "{error}");
}

#[test]
fn accompanying_information_must_fit_the_graph() {
    let model = Model::new(graph(), parameters()).unwrap();
    let info = |mean: &[f32], std: &[f32], classes: usize| ModelInfo {
        preprocessing: Some(Preprocessing {
            mean: mean.to_vec(),
            std: std.to_vec(),
        }),
        class_names: vec!["x".into(); classes],
    };
    let classes = model.graph().classes();
    assert!(
        model
            .clone()
            .with_info(info(&[0.5, 0.5], &[0.2, 0.2], classes))
            .is_ok()
    );
    assert!(
        model
            .clone()
            .with_info(info(&[0.5, 0.5], &[0.2, 0.2], 0))
            .is_ok()
    );
    for bad in [
        info(&[0.5], &[0.2, 0.2], 0),
        info(&[0.5, f32::NAN], &[0.2, 0.2], 0),
        info(&[0.5, 0.5], &[0.2, 0.0], 0),
        info(&[0.5, 0.5], &[0.2, 0.2], 2),
    ] {
        assert!(model.clone().with_info(bad).is_err());
    }
}
