//! The model file: what is written comes back, and everything else is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

#[path = "../common/mod.rs"]
mod common;
mod refusals;
mod round_trip;
mod schema;
mod writing;

use std::path::Path;

use addernet_graph::file::ModelFile;
use addernet_graph::{
    ConvAttributes, FeatureShape, Graph, GraphBuilder, Model, ModelInfo, Op, Parameters,
    PoolAttributes, Preprocessing,
};
use ndarray::ArrayD;
use safetensors::SafeTensors;
use serde_json::Value;

/// A network with every type of node.
pub(crate) fn every_node() -> Graph {
    let mut b = GraphBuilder::new("every-node", FeatureShape::new(2, 12, 10));
    let conv = ConvAttributes::square(2, 4, 3, 1, 1);
    b.add("conv", Op::Conv(conv.with_bias()), &["input"])
        .unwrap();
    let rectangular = ConvAttributes {
        in_channels: 4,
        out_channels: 4,
        kernel: [3, 1],
        stride: [1, 1],
        padding: [1, 0],
        bias: true,
    };
    b.add("block.adder", Op::AdderConv(rectangular), &["conv"])
        .unwrap();
    b.add(
        "bn",
        Op::BatchNorm {
            channels: 4,
            eps: 1e-5,
        },
        &["block.adder"],
    )
    .unwrap();
    b.add("add", Op::Add, &["bn", "conv"]).unwrap();
    b.add("relu", Op::Relu, &["add"]).unwrap();
    b.add(
        "max",
        Op::MaxPool(PoolAttributes::square(2, 2, 0)),
        &["relu"],
    )
    .unwrap();
    b.add(
        "avg",
        Op::AvgPool(PoolAttributes::square(3, 1, 1)),
        &["max"],
    )
    .unwrap();
    b.add("flatten", Op::Flatten, &["avg"]).unwrap();
    let linear = Op::Linear {
        in_features: 4 * 6 * 5,
        out_features: 3,
        bias: true,
    };
    b.add("fc", linear, &["flatten"]).unwrap();
    b.add("mean", Op::GlobalAvgPool, &["fc"]).unwrap();
    b.build().unwrap()
}

/// Parameters with a different value each.
pub(crate) fn parameters(graph: &Graph) -> Parameters {
    let mut value = 0.0f32;
    graph
        .parameters()
        .map(|(name, shape)| {
            let values = ArrayD::from_shape_simple_fn(shape, || {
                value += 0.1;
                value
            });
            (name, values)
        })
        .collect()
}

pub(crate) fn info() -> ModelInfo {
    ModelInfo {
        preprocessing: Some(Preprocessing {
            mean: vec![0.4914, 0.1],
            std: vec![0.2023, 1e-3],
        }),
        class_names: ["cat", "dög", "\"\u{1F426}\"\n"]
            .map(str::to_owned)
            .to_vec(),
    }
}

pub(crate) fn model() -> Model {
    let graph = every_node();
    let parameters = parameters(&graph);
    Model::new(graph, parameters)
        .unwrap()
        .with_info(info())
        .unwrap()
}

pub(crate) fn assert_same(a: &Model, b: &Model) {
    assert_eq!(a.graph(), b.graph());
    assert_eq!(a.parameters(), b.parameters());
    assert_eq!(a.info(), b.info());
}

/// The file with its metadata document changed.
pub(crate) fn edited(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let bytes = ModelFile::from(model()).to_bytes().unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut document =
        serde_json::from_str(&header.metadata().as_ref().unwrap()["addernet"]).unwrap();
    edit(&mut document);
    let metadata = [("addernet".to_owned(), document.to_string())].into();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap()
}

#[track_caller]
pub(crate) fn check(bytes: &[u8], parts: &[&str]) {
    let path = Path::new("a/model.safetensors");
    let error = ModelFile::from_bytes(bytes, path)
        .and_then(ModelFile::into_model)
        .unwrap_err();
    check_text(&error.to_string(), parts);
}

#[track_caller]
pub(crate) fn check_text(error: &str, parts: &[&str]) {
    assert!(error.starts_with("a/model.safetensors: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}
