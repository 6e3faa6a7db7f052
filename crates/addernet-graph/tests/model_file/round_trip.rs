//! What is written comes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use addernet_graph::file::{ModelFile, StoredTensor};
use addernet_graph::import::{self, ImportOptions};
use addernet_graph::{
    ConvAttributes, FeatureShape, Graph, GraphBuilder, GraphError, Model, ModelInfo, Op,
    PoolAttributes, Preprocessing,
};
use ndarray::{ArrayD, IxDyn, arr1};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{assert_same, check_text, every_node, info, model};

#[test]
fn a_model_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = model();
    ModelFile::from(model.clone()).write(&path).unwrap();
    let file = ModelFile::read(&path).unwrap();
    assert_eq!(file.origin(), Some(path.as_path()));
    assert!(!file.is_quantized());
    assert_same(&file.into_model().unwrap(), &model);
    // The general way in leads to the same.
    assert_same(
        &import::load(&path, &ImportOptions::default()).unwrap(),
        &model,
    );
    // Any safetensors reader finds the tensors by the parameters' names.
    let bytes = std::fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), model.parameters().len());
    assert_eq!(tensors.tensor("fc.weight").unwrap().shape(), [3, 120]);
}

/// A file of format version 1 that later versions must still read.
fn version_1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1.safetensors")
}

#[test]
fn a_file_of_version_1_is_read() {
    let read = ModelFile::read(version_1()).unwrap().into_model().unwrap();
    assert_same(&read, &model());
}

#[test]
#[ignore = "writes the fixture; only for a change of `model()` before version 2"]
fn write_the_file_of_version_1() {
    ModelFile::from(model()).write(version_1()).unwrap();
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let bytes = || ModelFile::from(model()).to_bytes().unwrap();
    assert_eq!(bytes(), bytes());
}

#[test]
fn all_element_types_and_extensions_come_back() {
    let mut file = ModelFile::new(every_node(), info());
    file.insert("f", arr1(&[1.5f32, f32::MIN_POSITIVE, -0.0]).into_dyn());
    file.insert("u", arr1(&[0u8, 255]).into_dyn());
    file.insert("i", ArrayD::from_elem(IxDyn(&[2, 1]), i32::MIN));
    file.insert("s", ArrayD::from_elem(IxDyn(&[]), -128i8));
    file.insert("e", ArrayD::<f32>::zeros(IxDyn(&[0, 7])));
    // In logical order, whatever the layout in memory.
    let transposed = ndarray::arr2(&[[1u8, 2, 3], [4, 5, 6]])
        .reversed_axes()
        .into_dyn();
    file.insert("t", transposed.clone());
    let scales: BTreeMap<String, f64> = [("a".into(), 0.1), ("b".into(), 1.0 / 3.0)].into();
    file.set_extension("quantization", &scales).unwrap();

    let path = Path::new("a/model.safetensors");
    let mut read = ModelFile::from_bytes(&file.to_bytes().unwrap(), path).unwrap();
    assert_eq!(read.tensors, file.tensors);
    assert_eq!(read.extensions, file.extensions);
    assert!(read.is_quantized());
    assert_eq!(
        read.extension::<BTreeMap<String, f64>>("quantization")
            .unwrap(),
        Some(scales)
    );
    assert_eq!(read.extension::<Value>("other").unwrap(), None);
    assert_eq!(read.tensors["t"].shape(), [3, 2]);
    assert_eq!(read.tensors["s"].dtype(), "I8");

    assert_eq!(read.take::<u8>("conv", "t", &[3, 2]).unwrap(), transposed);
    let error = |result: Result<ArrayD<f32>, GraphError>| result.unwrap_err().to_string();
    check_text(
        &error(read.take("conv", "t", &[3, 2])),
        &["node `conv`", "tensor `t` is missing"],
    );
    let text = error(read.take("conv", "i", &[2, 1]));
    check_text(
        &text,
        &[
            "node `conv`",
            "tensor `i` has the element type I32, expected F32",
        ],
    );
    let text = error(read.take("conv", "f", &[2]));
    check_text(
        &text,
        &["node `conv`", "tensor `f` has the shape [3], expected [2]"],
    );
    let text = read.check_all_taken().unwrap_err().to_string();
    check_text(&text, &["every-node", "3 unexpected (e, s, u)"]);
    let text = read
        .extension::<Vec<u8>>("quantization")
        .unwrap_err()
        .to_string();
    check_text(&text, &["`quantization` in its metadata"]);
    for name in ["e", "s", "u"] {
        read.tensors.remove(name);
    }
    read.check_all_taken().unwrap();
    check_text(
        &read.node_error("conv", "why").to_string(),
        &["node `conv`: why"],
    );

    read.insert("n", arr1(&[0.0, f32::INFINITY, f32::NAN]).into_dyn());
    let text = error(read.take("conv", "n", &[3]));
    check_text(&text, &["`conv`", "`n`", "2 non-finite", "index 1"]);
}

/// A chain of layers, some with a shortcut around them.
fn chain(name: &str, input: FeatureShape, layers: &[u8]) -> Graph {
    let mut b = GraphBuilder::new(name, input);
    let (mut last, mut shape) = ("input".to_owned(), input);
    for (i, &layer) in layers.iter().enumerate() {
        let FeatureShape {
            channels,
            height,
            width,
        } = shape;
        // 1x1 without or 3x3 with padding: the map keeps its size.
        let conv = ConvAttributes::square(channels, 1 + i % 3, 1 + 2 * (i % 2), 1, i % 2);
        let convolved = FeatureShape {
            channels: conv.out_channels,
            ..shape
        };
        let (op, output) = match layer {
            0 => (Op::Conv(conv), convolved),
            1 => (Op::AdderConv(conv), convolved),
            2 => (Op::AdderConv(conv.with_bias()), convolved),
            3 => (
                Op::BatchNorm {
                    channels,
                    eps: 1.0 / (3.0 + f32::from(layer)),
                },
                shape,
            ),
            4 if height > 1 && width > 1 => (
                Op::MaxPool(PoolAttributes::square(2, 2, 0)),
                FeatureShape::new(channels, height / 2, width / 2),
            ),
            5 => (
                Op::AvgPool(PoolAttributes::square(2, 1, 1)),
                FeatureShape::new(channels, height + 1, width + 1),
            ),
            6 if (height, width) == (1, 1) => (
                Op::Linear {
                    in_features: channels,
                    out_features: 2,
                    bias: i % 2 == 0,
                },
                FeatureShape::new(2, 1, 1),
            ),
            6 => (Op::Flatten, FeatureShape::new(shape.values(), 1, 1)),
            7 => (Op::GlobalAvgPool, FeatureShape::new(channels, 1, 1)),
            _ => (Op::Relu, shape),
        };
        let kind = op.kind();
        let node = b.add(format!("n{i}.{kind}"), op, &[&last]).unwrap();
        last = if layer % 2 == 0 && output == shape {
            b.add(format!("n{i}.shortcut"), Op::Add, &[&node, &last])
                .unwrap()
        } else {
            node
        };
        shape = output;
    }
    b.build().unwrap()
}

proptest! {
    #[test]
    fn random_models_come_back_as_they_were(
        name in r"\PC{0,12}",
        (channels, height, width) in (1usize..4, 1usize..9, 1usize..9),
        layers in prop::collection::vec(0u8..9, 1..8),
        mean in prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL,
        std in prop::num::f32::POSITIVE,
        values in prop::collection::vec(
            prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL,
            1..50,
        ),
    ) {
        let graph = chain(&name, FeatureShape::new(channels, height, width), &layers);
        let mut values = values.iter().cycle();
        let parameters = graph
            .parameters()
            .map(|(name, shape)| {
                let sign = |v: f32| if name.ends_with("running_var") { v.abs() } else { v };
                let array = ArrayD::from_shape_simple_fn(shape, || sign(*values.next().unwrap()));
                (name, array)
            })
            .collect();
        let info = ModelInfo {
            preprocessing: Some(Preprocessing {
                mean: vec![mean; channels],
                std: vec![std.clamp(f32::MIN_POSITIVE, f32::MAX); channels],
            }),
            class_names: (0..graph.classes()).map(|i| format!("{name}{i}")).collect(),
        };
        let model = Model::new(graph, parameters).unwrap().with_info(info).unwrap();
        let bytes = ModelFile::from(model.clone()).to_bytes().unwrap();
        let read = ModelFile::from_bytes(&bytes, Path::new("x")).unwrap();
        for (name, tensor) in &read.tensors {
            let StoredTensor::F32(array) = tensor else { panic!("{name}") };
            let same = array.iter().zip(&model.parameters()[name]);
            // Bit for bit: −0 and 0 are equal otherwise.
            prop_assert!(same.into_iter().all(|(a, b)| a.to_bits() == b.to_bits()), "{}", name);
        }
        prop_assert_eq!(&read.to_bytes().unwrap(), &bytes);
        assert_same(&read.into_model().unwrap(), &model);
    }
}
