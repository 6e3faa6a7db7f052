//! A committed model whose logits must never change.

use addernet_engine::Engine;
use addernet_graph::{ConvAttributes, FeatureShape, GraphBuilder, Op};
use addernet_quant::{QuantizedModel, Redistribution, store};

use crate::common::{self, Numbers};

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/tiny.safetensors"
);

/// A residual block between an ordinary convolution and a classifier.
fn tiny() -> QuantizedModel {
    let mut numbers = Numbers::new(20);
    let bn = || Op::BatchNorm {
        channels: 8,
        eps: 1e-5,
    };
    let mut b = GraphBuilder::new("tiny", FeatureShape::new(3, 8, 8));
    b.add(
        "conv1",
        Op::Conv(ConvAttributes::square(3, 8, 3, 1, 1)),
        &["input"],
    )
    .unwrap();
    b.add("bn1", bn(), &["conv1"]).unwrap();
    b.add("relu1", Op::Relu, &["bn1"]).unwrap();
    b.add(
        "adder",
        Op::AdderConv(ConvAttributes::square(8, 8, 3, 1, 1)),
        &["relu1"],
    )
    .unwrap();
    b.add("bn2", bn(), &["adder"]).unwrap();
    b.add("add", Op::Add, &["bn2", "relu1"]).unwrap();
    b.add("relu2", Op::Relu, &["add"]).unwrap();
    b.add("pool", Op::GlobalAvgPool, &["relu2"]).unwrap();
    b.add("flatten", Op::Flatten, &["pool"]).unwrap();
    let fc = Op::Linear {
        in_features: 8,
        out_features: 3,
        bias: true,
    };
    b.add("fc", fc, &["flatten"]).unwrap();
    let model = common::model(b.build().unwrap(), &mut numbers);
    let method = Redistribution {
        bits: 4,
        groups: 2,
        weight_clamp: true,
    };
    common::quantize(&model, &method, &mut numbers)
}

/// Writes the fixture anew: only for a deliberate change of the arithmetic or the format.
#[test]
#[ignore = "writes the fixture"]
fn write() {
    store::to_file(&tiny()).unwrap().write(FIXTURE).unwrap();
}

#[test]
fn logits_stay_what_they_are() {
    let engine = Engine::load(FIXTURE).unwrap();
    let pixels = Numbers::new(7).pixels(2 * 8 * 8 * 3);
    let logits = engine.run(&pixels[..]).unwrap();
    assert_eq!(logits.values(), LOGITS);
    assert_eq!(logits.scale(), 1.0 / f64::from(1 << 14));
}

/// Broken files are errors, whatever byte is hit.
#[test]
fn damaged_files_are_errors_or_other_models() {
    let bytes = std::fs::read(FIXTURE).unwrap();
    let load = |bytes: &[u8]| {
        let file = addernet_graph::file::ModelFile::from_bytes(bytes, "damaged".as_ref()).ok()?;
        let quantized = store::from_file(file).ok()?;
        let engine = Engine::new(&quantized, addernet_kernels::select_u8(None).unwrap()).ok()?;
        let pixels = vec![128; engine.program().graph().input_shape().values()];
        engine.run(&pixels[..]).ok()
    };
    assert!(load(&bytes).is_some());
    for end in (0..bytes.len()).step_by(7) {
        assert!(load(&bytes[..end]).is_none(), "cut at {end}");
    }
    for at in (0..bytes.len()).step_by(3) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        // Either an error or a model: a panic would end the test.
        load(&bytes);
    }
}

const LOGITS: [i32; 6] = [59963, -28923, -28655, 64819, -33588, -27141];
