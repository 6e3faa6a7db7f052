//! Files that are not written, and files that are not read.

use std::path::Path;

use addernet_graph::Preprocessing;
use addernet_graph::file::ModelFile;
use ndarray::{ArrayD, IxDyn, arr1};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::{check, edited, model};

#[test]
fn extensions_are_not_ignored() {
    let mut file = ModelFile::from(model());
    file.set_extension("quantization", &json!({})).unwrap();
    check(&file.to_bytes().unwrap(), &["holds a quantized model"]);
    let mut file = ModelFile::from(model());
    file.set_extension("pruning", &json!(null)).unwrap();
    check(&file.to_bytes().unwrap(), &["extension `pruning`"]);
    for reserved in ["format_version", "graph", "info"] {
        let mut file = ModelFile::from(model());
        file.set_extension(reserved, &1).unwrap();
        let error = file.to_bytes().unwrap_err().to_string();
        assert!(
            error.contains(&format!("must not be named `{reserved}`")),
            "{error}"
        );
    }
    let mut file = ModelFile::from(model());
    file.insert("__metadata__", arr1(&[0u8]).into_dyn());
    assert!(
        file.to_bytes()
            .unwrap_err()
            .to_string()
            .contains("must not be named `__metadata__`")
    );
}

#[test]
fn what_json_cannot_hold_is_not_written() {
    let mut file = ModelFile::from(model());
    file.info.preprocessing = Some(Preprocessing {
        mean: vec![f32::NAN; 2],
        std: vec![1.0; 2],
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let error = file.write(&path).unwrap_err().to_string();
    assert!(error.contains("`info`"), "{error}");
    assert!(!path.exists());
}

#[test]
fn wrong_documents_are_refused() {
    let case = |edit: fn(&mut Value), parts: &[&str]| check(&edited(edit), parts);
    case(
        |d| d["format_version"] = json!(2),
        &["format version 2", "reads 1 to 1"],
    );
    case(|d| d["format_version"] = json!(0), &["format version 0"]);
    case(
        |d| d["format_version"] = json!("1"),
        &["format version \"1\""],
    );
    case(
        |d| d["format_version"] = json!(1.5),
        &["format version 1.5"],
    );
    for key in ["format_version", "graph", "info"] {
        let bytes = edited(|d| drop(d.as_object_mut().unwrap().remove(key)));
        check(&bytes, &[&format!("lacks `{key}`")]);
    }
    case(|d| *d = json!([]), &["not valid JSON"]);
    case(
        |d| d["graph"]["nodes"][1]["type"] = json!("softmax"),
        &["`graph`", "softmax"],
    );
    case(
        |d| d["graph"]["nodes"][1]["inputs"] = json!(["conv2"]),
        &["`block.adder`", "`conv2`"],
    );
    case(
        |d| d["graph"]["nodes"][1]["in_channels"] = json!(3),
        &["`block.adder`", "3 input channels"],
    );
    case(
        |d| d["graph"]["nodes"][0]["stride"] = json!([0, 1]),
        &["`conv`"],
    );
    case(
        |d| d["graph"]["nodes"][0]["out_channels"] = json!(-1),
        &["`graph`", "-1"],
    );
    case(
        |d| d["graph"]["nodes"][0]["dilation"] = json!(2),
        &["`graph`", "dilation"],
    );
    case(
        |d| d["graph"]["nodes"][2]["eps"] = json!(null),
        &["`graph`"],
    );
    case(
        |d| d["graph"]["nodes"][3]["name"] = json!("bn"),
        &["`bn`", "taken"],
    );
    case(
        |d| d["graph"]["input"]["height"] = json!(1u64 << 40),
        &["every-node"],
    );
    case(|d| d["graph"]["nodes"] = json!([]), &["no node"]);
    case(
        |d| d["graph"]["nodes"][0]["name"] = json!("con\nv"),
        &["name `con\u{fffd}v`", "control characters"],
    );
    case(
        |d| d["graph"]["name"] = json!("x".repeat(257)),
        &["longer than 256 characters"],
    );
    case(|d| d["info"]["author"] = json!("x"), &["`info`", "author"]);
    case(
        |d| d["info"]["class_names"] = json!(["a"]),
        &["3 classes", "1 class names"],
    );
    case(
        |d| d["info"]["preprocessing"]["std"] = json!([1, 0]),
        &["positive standard deviations"],
    );
    case(
        |d| d["info"]["preprocessing"]["mean"] = json!([1]),
        &["1 means"],
    );
    case(
        |d| {
            // A parameter of 2^60 values is refused before any tensor is looked at.
            d["graph"]["nodes"][0]["out_channels"] = json!(1 << 20);
            d["graph"]["nodes"][0]["kernel"] = json!([1 << 20, 1 << 20]);
        },
        &["`conv`"],
    );
}

#[test]
fn damaged_containers_are_refused() {
    let good = ModelFile::from(model()).to_bytes().unwrap();
    for length in 0..good.len() {
        check(&good[..length], &[]);
    }
    check(&[good.as_slice(), b"x"].concat(), &["truncated or damaged"]);
    check(b"\x02\0\0\0\0\0\0\0{}", &["bare state dict"]);
    check(b"PK\x03\x04", &["not a safetensors file"]);
    let nested = format!("{{\"graph\":{}", "[".repeat(200_000));
    let metadata = [("addernet".to_owned(), nested)].into();
    let none: [(&str, TensorView<'_>); 0] = [];
    check(
        &safetensors::serialize(none, Some(metadata)).unwrap(),
        &["not valid JSON"],
    );
    // Bits of the header that flip.
    let header = 8 + usize::try_from(u64::from_le_bytes(good[..8].try_into().unwrap())).unwrap();
    for position in 0..header {
        for flip in [1, 0x80] {
            let mut damaged = good.clone();
            damaged[position] ^= flip;
            // Only not to panic: in a name or a mean any letter or digit is as good as another.
            let _ = ModelFile::from_bytes(&damaged, Path::new("x")).and_then(ModelFile::into_model);
        }
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let with = |edit: fn(&mut ModelFile)| {
        let mut file = ModelFile::from(model());
        edit(&mut file);
        file.to_bytes().unwrap()
    };
    let case = |edit: fn(&mut ModelFile), parts: &[&str]| check(&with(edit), parts);
    case(
        |file| drop(file.tensors.remove("bn.bias")),
        &["every-node", "1 missing (bn.bias)"],
    );
    case(
        |file| file.insert("bn.bias", ArrayD::<f32>::zeros(IxDyn(&[5]))),
        &["misshapen (bn.bias: expected [4], found [5])"],
    );
    case(
        |file| {
            file.insert("head", ArrayD::<u8>::zeros(IxDyn(&[5])));
            file.insert("tail", ArrayD::<f32>::zeros(IxDyn(&[5])));
            file.tensors.remove("bn.bias");
        },
        &["1 missing (bn.bias)", "2 unexpected (head, tail)"],
    );
    case(
        |file| file.insert("bn.bias", ArrayD::<i32>::zeros(IxDyn(&[4]))),
        &[
            "node `bn`",
            "`bn.bias` has the element type I32, expected F32",
        ],
    );
    case(
        |file| file.insert("bn.bias", arr1(&[0.0, 1.0, f32::NAN, 0.0]).into_dyn()),
        &["node `bn`", "`bn.bias`", "1 non-finite", "index 2"],
    );
    case(
        |file| file.insert("bn.running_var", arr1(&[0.0, 1.0, -1.0, 0.0]).into_dyn()),
        &["node `bn`", "negative variance"],
    );
    // An element type that model files do not hold.
    let metadata = {
        let bytes = ModelFile::from(model()).to_bytes().unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        header.metadata().clone().unwrap()
    };
    let view = TensorView::new(Dtype::F16, vec![1], &[0, 0]).unwrap();
    let bytes = safetensors::serialize([("bn.bias", view)], Some(metadata)).unwrap();
    check(&bytes, &["`bn.bias` has the element type F16"]);
}
