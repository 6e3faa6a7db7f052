//! The published checkpoint on CIFAR-10, where both are at hand: `ADDERNET_CIFAR10_DIR` is the folder
//! with the data set, and the checkpoint is in `../shared` beside the workspace.
//!
//! The long tests go through all 10,000 test images:
//! `ADDERNET_CIFAR10_DIR=DIR cargo test --release -p addernet -- --ignored`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{addernet, json};
use crate::eval::read_logits;

/// Says on standard error that a test is skipped. `eprintln!` would be hidden: the test passes.
fn skipped(reason: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// The checkpoint, the golden logits, and the data set.
struct Published {
    model: PathBuf,
    golden: PathBuf,
    data: PathBuf,
}

impl Published {
    /// `None`, and a line that says so, where something is missing.
    fn find() -> Option<Self> {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
        let model = shared.join("models/resnet20-addernet-cifar10.pth");
        let golden = shared.join("golden/resnet20_cifar10_first64_logits.safetensors");
        let Some(data) = std::env::var_os("ADDERNET_CIFAR10_DIR").map(PathBuf::from) else {
            skipped(format_args!("ADDERNET_CIFAR10_DIR is not set"));
            return None;
        };
        if let Some(missing) = [&model, &golden].into_iter().find(|path| !path.exists()) {
            skipped(format_args!("{} is not there", missing.display()));
            return None;
        }
        Some(Self {
            model,
            golden,
            data,
        })
    }

    fn run(&self, verb: &str, model: &Path, flags: &[&str]) -> Value {
        let mut command = addernet([verb.as_ref(), model.as_os_str()]);
        command
            .args(["--dataset", "cifar10", "--json", "--data-dir"])
            .arg(&self.data)
            .args(flags);
        json(command)
    }
}

fn top1(report: &Value) -> f64 {
    report["top1"].as_f64().unwrap()
}

#[test]
fn the_first_64_logits_are_those_of_the_original_code() {
    let Some(published) = Published::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.safetensors");
    let flags = ["--limit", "64", "--logits", path.to_str().unwrap()];
    published.run("eval", &published.model, &flags);
    let (shape, logits) = read_logits(&path);
    let (golden_shape, golden) = read_logits(&published.golden);
    assert_eq!((&shape, shape.as_slice()), (&golden_shape, &[64, 10][..]));
    let argmax = |row: &[f32]| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    for (image, (row, golden)) in logits.chunks(10).zip(golden.chunks(10)).enumerate() {
        assert_eq!(argmax(row), argmax(golden), "image {image}");
        for (a, b) in row.iter().zip(golden) {
            assert!(
                (a - b).abs() <= 1e-2,
                "image {image}: {row:?}, expected {golden:?}"
            );
        }
    }
}

#[test]
#[ignore = "long: evaluates 10,000 images"]
fn float_accuracy_is_the_published_one() {
    let Some(published) = Published::find() else {
        return;
    };
    let report = published.run("eval", &published.model, &[]);
    assert_eq!(report["images"], 10_000);
    assert!((0.9172..=0.9192).contains(&top1(&report)), "{report}");
}

#[test]
#[ignore = "long: quantizes and evaluates four times"]
fn quantized_accuracy_reaches_the_published_table() {
    let Some(published) = Published::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // Nie et al. 2022, table 1: ResNet-20 on CIFAR-10.
    for (bits, expected) in [("8", 0.9136), ("6", 0.9121), ("5", 0.9086), ("4", 0.9027)] {
        let output = folder.path().join("quantized.safetensors");
        let flags = [
            "--bits",
            bits,
            "--method",
            "redistribution",
            "--groups",
            "4",
            "--calibration",
        ];
        let flags = [&flags[..], &["2048", "-o", output.to_str().unwrap()]].concat();
        published.run("quantize", &published.model, &flags);
        let report = published.run("eval", &output, &["--engine", "simulated"]);
        eprintln!("{bits} bits: top-1 {}", top1(&report));
        assert!(top1(&report) >= expected, "{bits} bits: {report}");
    }
}

#[test]
#[ignore = "long: tunes a network for minutes"]
fn the_recommended_method_beats_the_published_table_by_a_point() {
    let Some(published) = Published::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("quantized.safetensors");
    let flags = ["--bits", "4", "--method", "auto", "-o"];
    let flags = [&flags[..], &[output.to_str().unwrap()]].concat();
    published.run("quantize", &published.model, &flags);
    let report = published.run("eval", &output, &[]);
    eprintln!("4 bits: top-1 {}", top1(&report));
    assert!(top1(&report) >= 0.9130, "{report}");
}

#[test]
#[ignore = "long: quantizes and evaluates twice"]
fn the_baseline_loses_at_8_bits_and_collapses_at_4() {
    let Some(published) = Published::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let accuracy = |bits| {
        let output = folder.path().join("baseline.safetensors");
        let flags = [
            "--bits",
            bits,
            "--method",
            "shared-scale",
            "--evaluate",
            "-o",
        ];
        let flags = [&flags[..], &[output.to_str().unwrap()]].concat();
        top1(
            &published.run("quantize", &published.model, &flags)["accuracy"]["with_bn_reestimation"],
        )
    };
    let (eight, four) = (accuracy("8"), accuracy("4"));
    assert!((0.80..0.91).contains(&eight), "{eight}");
    assert!(four < 0.3, "{four}");
}
