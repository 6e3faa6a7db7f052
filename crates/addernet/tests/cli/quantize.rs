//! `addernet quantize`.

use std::fs;

use serde_json::json;

use crate::common::{Folder, addernet, error, eval, json, stdout, usage_error};
use crate::eval::read_logits;

#[test]
fn the_file_evaluates_as_the_report_says() {
    let folder = Folder::new();
    let flags = [
        "--bits",
        "6",
        "--bn-images",
        "300",
        "--evaluate",
        "--seed",
        "7",
    ];
    let report = folder.quantize("q.safetensors", &flags);
    let path = folder.path("q.safetensors");
    assert_eq!(report["output"], path.to_str().unwrap());
    assert_eq!(report["output_bytes"], fs::metadata(&path).unwrap().len());
    for (key, value) in [
        ("method", json!("redistribution")),
        ("weight_bits", json!(6)),
        ("activation_bits", json!(6)),
        ("groups", json!(4)),
        ("weight_clamp", json!(true)),
        ("outlier_quantile", json!(0.9997)),
        ("calibration_images", json!(200)),
        ("calibration_batch", json!(128)),
        ("bn_images", json!(300)),
        ("seed", json!(7)),
        ("dataset", json!("shapes")),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    assert_eq!(report["layers"].as_array().unwrap().len(), 3);

    let figures = |report: &serde_json::Value| {
        ["top1", "top5", "loss", "images"].map(|key| report[key].clone())
    };
    let accuracy = &report["accuracy"];
    assert_eq!(
        figures(&accuracy["float"]),
        figures(&json(eval(&folder.model(), &[])))
    );
    assert_eq!(
        figures(&accuracy["with_bn_reestimation"]),
        figures(&json(eval(&path, &["--engine", "simulated"])))
    );
    assert_eq!(
        figures(&accuracy["integer"]),
        figures(&json(eval(&path, &["--engine", "integer"])))
    );
    // The same without re-estimation is what the other flag writes.
    folder.quantize(
        "plain.safetensors",
        &["--bits", "6", "--no-reestimate-bn", "--seed", "7"],
    );
    let plain = json(eval(
        &folder.path("plain.safetensors"),
        &["--engine", "simulated"],
    ));
    assert_eq!(
        figures(&accuracy["without_bn_reestimation"]),
        figures(&plain)
    );
}

#[test]
fn without_reestimation_there_is_no_figure_with_it() {
    let folder = Folder::new();
    let report = folder.quantize(
        "q.safetensors",
        &["--bits", "8", "--no-reestimate-bn", "--evaluate"],
    );
    assert_eq!(report["bn_images"], 0);
    assert!(report["accuracy"]["with_bn_reestimation"].is_null());
    assert!(report["accuracy"]["without_bn_reestimation"]["top1"].is_f64());
    let report = folder.quantize("q.safetensors", &["--bits", "8", "--no-reestimate-bn"]);
    assert!(report.get("accuracy").is_none());
}

#[test]
fn eight_bits_stay_close_to_float_and_the_baseline_is_worse() {
    let folder = Folder::new();
    let logits = |model: &std::path::Path| {
        let path = folder.path("logits.safetensors");
        json(eval(
            model,
            &["--limit", "100", "--logits", path.to_str().unwrap()],
        ));
        read_logits(&path).1
    };
    let float = logits(&folder.model());
    let mean = float.iter().sum::<f32>() / float.len() as f32;
    let spread = float.iter().map(|v| (v - mean).powi(2)).sum::<f32>();
    let distance = |flags: &[&str]| {
        folder.quantize("q.safetensors", flags);
        let quantized = logits(&folder.path("q.safetensors"));
        let squares = float
            .iter()
            .zip(&quantized)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f32>();
        squares / spread
    };
    let at = |bits, method| {
        distance(&[
            "--bits",
            bits,
            "--method",
            method,
            "--no-reestimate-bn",
            "--outlier-quantile",
            "1",
        ])
    };
    let (eight, four) = (at("8", "redistribution"), at("4", "redistribution"));
    let baseline = at("4", "shared-scale");
    assert!(eight < 0.01, "{eight}");
    assert!(eight < four && four < baseline, "{eight} {four} {baseline}");
}

#[test]
fn the_same_seed_gives_the_same_file_on_any_number_of_threads() {
    let folder = Folder::new();
    let bytes = |flags: &[&str]| {
        let common = ["--bits", "4", "--bn-images", "200"];
        folder.quantize("q.safetensors", &[&common, flags].concat());
        fs::read(folder.path("q.safetensors")).unwrap()
    };
    let first = bytes(&["--seed", "1", "--threads", "1"]);
    assert!(bytes(&["--seed", "1", "--threads", "3"]) == first);
    assert!(bytes(&["--seed", "2"]) != first);
    assert_eq!(folder.files(), ["lenet.safetensors", "q.safetensors"]);
}

#[test]
fn people_get_lines() {
    let folder = Folder::new();
    let mut command = addernet(["quantize".as_ref(), folder.model().as_os_str()]);
    command.args([
        "--bits",
        "4",
        "--dataset",
        "shapes",
        "--calibration",
        "100",
        "--bn-images",
        "100",
    ]);
    command.arg("-o").arg(folder.path("q.safetensors"));
    let text = stdout(command);
    for line in [
        "method        redistribution, 4 bits, 3 adder layers",
        "calibration   100 images",
        "BN            re-estimated on 100 images",
    ] {
        assert!(text.lines().any(|l| l == line), "{text}");
    }
}

#[test]
fn flags_that_the_method_ignores_are_refused() {
    let folder = Folder::new();
    for flags in [
        ["--groups", "2", "--bits", "8"].as_slice(),
        &["--no-weight-clamp", "--bits", "8"],
        &["--budget-bits", "3.5"],
    ] {
        let mut command = addernet(["quantize".as_ref(), folder.model().as_os_str()]);
        command.args(["--method", "shared-scale", "--dataset", "shapes", "-o", "x"]);
        let message = usage_error({
            command.args(flags);
            command
        });
        assert!(
            message.contains(flags[0]) && message.contains("shared-scale"),
            "{message}"
        );
    }
}

#[test]
fn bits_are_given_once_and_in_full() {
    let folder = Folder::new();
    for (flags, reason) in [
        (["--weight-bits", "2"].as_slice(), "--activation-bits"),
        (&["--bits", "4", "--budget-bits", "3.5"], "--budget-bits"),
        (&["--budget-bits", "1.5"], "2 to 8"),
        (&["--budget-bits", "NaN"], "2 to 8"),
        (
            &["--budget-bits", "4", "--budget-energy", "1uJ"],
            "--budget-energy",
        ),
        (&["--budget-energy", "1.5 apples"], "--budget-energy"),
        (
            &["--bits", "4", "--energy-model", "horowitz-2014"],
            "--budget-energy",
        ),
        (&[], "--bits"),
    ] {
        let mut command = addernet(["quantize".as_ref(), folder.model().as_os_str()]);
        command.args(["--method", "auto", "--dataset", "shapes", "-o", "x"]);
        command.args(flags);
        let message = usage_error(command);
        assert!(message.contains(reason), "{flags:?}: {message}");
    }
}

#[test]
fn the_recommended_method_has_a_name_and_bits_for_weights_and_activations() {
    let folder = Folder::new();
    let common = [
        "--method",
        "auto",
        "--weight-bits",
        "2",
        "--activation-bits",
        "4",
    ];
    let report = folder.quantize(
        "q.safetensors",
        &[&common[..], &["--tuning-epochs", "1"]].concat(),
    );
    for (key, value) in [
        ("method", json!("reconstruction")),
        ("weight_bits", json!(2)),
        ("activation_bits", json!(4)),
        ("groups", json!(1)),
        ("bn_images", json!(0)),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    // It runs on integers, and as simulated.
    let path = folder.path("q.safetensors");
    let top1 = |engine| {
        json(eval(&path, &["--engine", engine]))["top1"]
            .as_f64()
            .unwrap()
    };
    assert!((top1("integer") - top1("simulated")).abs() < 0.05);

    // The tensors alone: the header tells the settings, and differs with them.
    let bytes = |flags: &[&str]| {
        folder.quantize("q.safetensors", &[&common[..], flags].concat());
        let file = fs::read(&path).unwrap();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap());
        file[8 + header as usize..].to_vec()
    };
    let plain = bytes(&["--tuning-epochs", "0"]);
    assert!(bytes(&["--tuning-epochs", "0"]) == plain);
    assert!(bytes(&["--tuning-epochs", "0", "--no-scale-search"]) != plain);
    assert!(bytes(&["--tuning-epochs", "0", "--no-correction"]) != plain);
    let tuned = bytes(&["--tuning-epochs", "1"]);
    for flag in [
        "--no-learned-rounding",
        "--no-learned-scales",
        "--no-feature-loss",
        "--no-mixup",
    ] {
        assert!(bytes(&["--tuning-epochs", "1", flag]) != tuned, "{flag}");
    }
}

#[test]
fn a_budget_gives_each_layer_its_bits() {
    let folder = Folder::new();
    let report = folder.quantize(
        "q.safetensors",
        &[
            "--method",
            "auto",
            "--budget-bits",
            "3.5",
            "--tuning-epochs",
            "1",
        ],
    );
    let mixed = &report["mixed_precision"];
    let average = mixed["average_bits"].as_f64().unwrap();
    assert!(average <= 3.5 && average > 2.0, "{average}");
    for (layer, mixed) in
        (report["layers"].as_array().unwrap().iter()).zip(mixed["layers"].as_array().unwrap())
    {
        assert_eq!(layer["node"], mixed["node"]);
        assert_eq!(layer["quantization"]["weight_bits"], mixed["bits"]);
        assert_eq!(layer["quantization"]["activation_bits"], mixed["bits"]);
    }
    // It is on record in the file, and runs on integers.
    let path = folder.path("q.safetensors");
    let inspected = json(addernet([
        "inspect".as_ref(),
        path.as_os_str(),
        "--json".as_ref(),
    ]));
    let recorded = &inspected["quantization"]["reconstruction"]["layer_bits"];
    assert_eq!(recorded.as_object().unwrap().len(), 3);
    assert_eq!(json(eval(&path, &[]))["engine"], "integer");
}

#[test]
fn outputs_are_checked_before_the_work() {
    let folder = Folder::new();
    let refuse = |output: &std::path::Path| {
        let mut command = addernet(["quantize".as_ref(), folder.model().as_os_str()]);
        // So much work that the test would notice it.
        command.args([
            "--bits",
            "4",
            "--dataset",
            "shapes",
            "--bn-images",
            "10000000",
            "-o",
        ]);
        command.arg(output);
        error(command)
    };
    let message = refuse(&folder.path("missing/q.safetensors"));
    assert!(
        message.contains("missing/q.safetensors") && message.contains("create it"),
        "{message}"
    );
    // Even the superuser cannot write below a file.
    let message = refuse(&folder.model().join("q.safetensors"));
    assert!(message.contains("there is no folder"), "{message}");
    let message = refuse(&folder.path(""));
    assert!(message.contains("is a folder"), "{message}");
    let before = fs::read(folder.model()).unwrap();
    let message = refuse(&folder.path("./lenet.safetensors"));
    assert!(
        message.contains("is the model to be quantized"),
        "{message}"
    );
    assert_eq!(fs::read(folder.model()).unwrap(), before);
    #[cfg(target_os = "linux")]
    {
        let message = refuse(std::path::Path::new("/proc/q.safetensors"));
        assert!(
            message.contains("/proc/q.safetensors: cannot be written"),
            "{message}"
        );
    }
    assert_eq!(folder.files(), ["lenet.safetensors"]);
}

#[test]
fn another_existing_output_is_replaced() {
    let folder = Folder::new();
    fs::write(folder.path("q.safetensors"), "old").unwrap();
    folder.quantize("q.safetensors", &["--bits", "4", "--no-reestimate-bn"]);
    json(eval(&folder.path("q.safetensors"), &["--limit", "1"]));
}
