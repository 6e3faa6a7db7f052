//! `addernet inspect`.

use std::process::Stdio;

use crate::common::{Folder, addernet, error, json, stdout, usage_error};

fn inspect(model: &std::path::Path, flags: &[&str]) -> std::process::Command {
    let mut command = addernet(["inspect".as_ref(), model.as_os_str()]);
    command.args(flags);
    command
}

/// The report without the first line, which holds a path.
fn tables(command: std::process::Command) -> String {
    let text = stdout(command);
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    text.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn a_float_model_without_images() {
    let folder = Folder::new();
    insta::assert_snapshot!(tables(inspect(&folder.model(), &[])), @r"
    lenet5-bn, images 32x32x3, 10 classes, 62,684 parameters
    298,080 terms |x − w| per image

    layer  kernel  stride  channels  input map  weights    terms  weight range
    conv2     5x5     1x1    6 → 16      14x14    2,400  240,000   -20.0..20.0
    conv3     5x5     1x1  16 → 120        5x5   48,000   48,000   -20.0..20.0
    fc1       1x1     1x1  120 → 84        1x1   10,080   10,080   -20.0..20.0

    Activation ranges need images: add --dataset NAME --data-dir DIR to see which weights are outside.
    ");
}

#[test]
fn a_float_model_with_images() {
    let folder = Folder::new();
    let flags = ["--dataset", "shapes", "--calibration", "100"];
    let text = tables(inspect(&folder.model(), &flags));
    assert!(!text.contains("--dataset"), "{text}");
    let report = json(inspect(
        &folder.model(),
        &[&flags[..], &["--json"]].concat(),
    ));
    for layer in report["layers"].as_array().unwrap() {
        let shares = layer["weight_shares"].as_object().unwrap();
        let sum: f64 = shares.values().map(|v| v.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9);
        let bound = layer["activations"]["bound"].as_f64().unwrap();
        assert!(bound > 0.0 && bound <= layer["activations"]["max"].as_f64().unwrap());
        let node = layer["node"].as_str().unwrap();
        assert_eq!(
            text.lines().filter(|line| line.starts_with(node)).count(),
            2,
            "{text}"
        );
    }
    assert_eq!(
        report["file_bytes"],
        std::fs::metadata(folder.model()).unwrap().len()
    );
}

#[test]
fn a_quantized_model() {
    let folder = Folder::new();
    folder.quantize("q.safetensors", &["--bits", "3", "--no-reestimate-bn"]);
    let quantized = folder.path("q.safetensors");
    let text = tables(inspect(&quantized, &[]));
    assert!(
        text.contains("redistribution, 3 bits for weights and 3 for activations"),
        "{text}"
    );
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("conv2"))
            .count(),
        4,
        "{text}"
    );
    let report = json(inspect(&quantized, &["--json"]));
    // Both convolutions, two linear layers of which one is an adder layer, the classifier.
    let headroom = report["headroom"]["layers"].as_array().unwrap();
    assert_eq!(headroom.len(), 5);
    for layer in headroom {
        let (bits, free) = (&layer["sum_bits"], &layer["sum_bits_free"]);
        let used = bits.as_u64().unwrap() - 1 - free.as_u64().unwrap();
        let sum = layer["sum"].as_u64().unwrap();
        assert!(sum < 1 << used && sum >= 1 << (used - 1), "{layer}");
    }
    assert_eq!(report["quantization"]["calibration_images"], 200);
    for layer in report["layers"].as_array().unwrap() {
        assert_eq!(layer["quantization"]["weight_bits"], 3);
        let scales = layer["quantization"]["scales"].as_array().unwrap();
        assert_eq!(layer["quantization"]["groups"], scales.len());
    }
    let message = error(inspect(&quantized, &["--dataset", "shapes"]));
    assert!(message.contains("leave --dataset out"), "{message}");
}

#[test]
fn flags_about_images_need_a_data_set() {
    let folder = Folder::new();
    for flags in [
        ["--data-dir", "."],
        ["--calibration", "5"],
        ["--resize", "40"],
    ] {
        let message = usage_error(inspect(&folder.model(), &flags));
        assert!(message.contains("--dataset"), "{message}");
    }
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let folder = Folder::new();
    let mut command = inspect(&folder.model(), &[]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
