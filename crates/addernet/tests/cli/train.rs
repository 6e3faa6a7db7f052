//! `addernet train` and `addernet demo`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{addernet, error, json, stdout, usage_error};

/// A run of a few small steps on generated images.
fn train(folder: &TempDir, name: &str, flags: &[&str]) -> Command {
    let mut command = addernet(["train", "shapes", "--arch", "lenet5-bn", "--threads", "1"]);
    command
        .args([
            "--set",
            "train-images=96",
            "--set",
            "epochs=2",
            "--batch",
            "16",
        ])
        .args(["--evaluate-every", "0", "--out"])
        .arg(folder.path().join(name))
        .args(flags);
    command
}

fn resume(folder: &Path) -> Command {
    let mut command = addernet(["train", "--threads", "1", "--json", "--resume"]);
    command.arg(folder);
    command
}

#[test]
fn a_run_reports_and_its_model_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(train(&folder, "run", &["--json", "--seed", "3"]));
    assert_eq!(report["epochs"], 2);
    assert_eq!(report["recipe"]["seed"], 3);
    assert_eq!(report["recipe"]["architecture"], "lenet5-bn");
    assert!(report["test_top1"].as_f64().unwrap() <= 1.0, "{report}");
    let model = PathBuf::from(report["model"].as_str().unwrap());
    let evaluation = json(crate::common::eval(&model, &[]));
    assert_eq!(evaluation["top1"], report["test_top1"]);
    // A run goes on from a finished one's parameters.
    let from = ["--json", "--from", model.to_str().unwrap(), "--epochs", "1"];
    let report = json(train(&folder, "more", &from));
    assert_eq!(report["epochs"], 1);
    let text = stdout(train(&folder, "text", &["--epochs", "1"]));
    assert!(
        text.contains("trained   lenet5-bn on shapes, 1 epochs"),
        "{text}"
    );
    assert!(text.contains("next      addernet quantize"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    stdout(train(&folder, "whole", &[]));
    let bytes = |name: &str| std::fs::read(folder.path().join(name).join("model.safetensors"));
    let whole = bytes("whole").unwrap();
    for (name, milliseconds) in [("a", 150), ("b", 700)] {
        let mut command = train(&folder, name, &["--checkpoint-every", "0"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let checkpoint = folder.path().join(name).join("checkpoint.safetensors");
        while !checkpoint.exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        // Finished already, or SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        let report = json(resume(&folder.path().join(name)));
        assert_eq!(report["epochs"], 2);
        assert!(bytes(name).unwrap() == whole, "{name}: other weights");
    }
}

#[test]
fn quantization_aware_training_leaves_a_model_for_the_integer_engine() {
    let folder = tempfile::tempdir().unwrap();
    // BN has seen what there is to see: untrained layers would be dead.
    let flags = ["--json", "--epochs", "1", "--set", "bn-momentum=1.0"];
    let report = json(train(&folder, "float", &flags));
    let float = report["model"].as_str().unwrap().to_owned();
    assert_eq!(report["integer"], Value::Null);
    let qat = |name: &str, from: &str, flags: &[&str]| {
        let mut command = addernet(["train", "--qat", "--from", from, "--dataset", "shapes"]);
        command
            .args(["--epochs", "1", "--evaluate-every", "0", "--out"])
            .arg(folder.path().join(name))
            .args(["--set", "train-images=64", "--set"])
            .arg("qat.calibration-images=32")
            .args(flags);
        command
    };
    let report = json(qat("qat", &float, &["--bits", "3", "--json"]));
    let recipe = &report["recipe"];
    assert_eq!(recipe["architecture"], "lenet5-bn");
    assert_eq!(recipe["qat"]["weight-bits"], 3);
    assert_eq!(recipe["qat"]["activation-bits"], 3);
    // What was reported is what the model gives when it is used.
    let model = PathBuf::from(report["model"].as_str().unwrap());
    let evaluation = json(crate::common::eval(&model, &[]));
    assert_eq!(evaluation["engine"], "integer");
    assert_eq!(evaluation["top1"], report["integer"]["top1"]);
    let text = stdout(qat("text", &float, &["--weight-bits", "2"]));
    assert!(text.contains("integers  top-1"), "{text}");
    assert!(text.contains("next      addernet eval"), "{text}");

    let quantized = error(qat("x", model.to_str().unwrap(), &[]));
    assert!(
        quantized.contains("is quantized; --from takes"),
        "{quantized}"
    );
    let without = usage_error(addernet(["train", "--qat", "--out", "x"]));
    assert!(without.contains("--from"), "{without}");
    let bits = usage_error(addernet(["train", "shapes", "--bits", "3", "--out", "x"]));
    assert!(bits.contains("--qat"), "{bits}");
    let recipe = ["train", "qat", "--dataset", "shapes", "--out"];
    let mut command = addernet(recipe);
    command.arg(folder.path().join("y"));
    let error = error(command);
    assert!(error.contains("--from MODEL"), "{error}");
}

#[test]
fn recipes_are_listed_and_shown() {
    let list = stdout(addernet(["train", "--list"]));
    assert!(list.contains("cifar10 "), "{list}");
    let all: Value = json(addernet(["train", "--list", "--json"]));
    assert_eq!(all["cifar10"]["epochs"], 400);
    let recipe = stdout(addernet(["train", "--show", "cifar10"]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, recipe).unwrap();
    let mut command = addernet(["train", "--show"]);
    command.arg(&path);
    assert!(stdout(command).contains("epochs = 400"));
}

#[test]
fn errors_say_how_to_mend_them() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = error(addernet(["train", "cifar11", "--out", "x"]));
    assert!(unknown.contains("built-in recipe (cifar10, "), "{unknown}");
    let setting = error(train(&folder, "x", &["--set", "epoch=3"]));
    assert!(setting.contains("unknown field `epoch`"), "{setting}");
    let no_data = error(train(&folder, "x", &["--dataset", "cifar10"]));
    assert!(
        no_data.contains("--data-dir") || no_data.contains("data"),
        "{no_data}"
    );
    // Nothing of these is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let nothing = error(resume(&folder.path().join("nothing")));
    assert!(nothing.contains("is not there"), "{nothing}");
    stdout(train(&folder, "run", &["--epochs", "1"]));
    let again = error(train(&folder, "run", &[]));
    assert!(again.contains("--resume"), "{again}");
    let diverged = error(train(&folder, "far", &["--lr", "1e30", "--epochs", "20"]));
    assert!(
        diverged.contains("the likely cause: the learning rate"),
        "{diverged}"
    );
    let usage = usage_error(addernet(["train", "shapes", "--resume", "x"]));
    assert!(usage.contains("cannot be used with"), "{usage}");
    usage_error(addernet(["train", "shapes"]));
}

/// The whole demo takes minutes: it is measured by hand, see CONTRIBUTING.md.
#[test]
#[ignore = "trains and quantizes for a few minutes"]
fn the_demo_gives_the_same_result_for_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let mut command = addernet(["demo", "--json", "--out"]);
        command.arg(folder.path().join(name));
        json(command)
    };
    let (a, b) = (run("a"), run("b"));
    assert_eq!(a["cells"], b["cells"]);
    assert_eq!(a["cells"].as_array().unwrap().len(), 10);
    assert!(a["float"]["top1"].as_f64().unwrap() > 0.7, "{a}");
    assert!(folder.path().join("a/report.html").is_file());
}

#[cfg(not(feature = "gpu"))]
#[test]
fn a_gpu_needs_a_program_that_was_built_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let message = error(train(&folder, "run", &["--device", "gpu"]));
    assert!(message.contains("feature `gpu`"), "{message}");
    assert!(!folder.path().join("run").exists());
}

#[cfg(feature = "gpu")]
#[test]
fn without_a_gpu_the_cpu_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = train(
        &folder,
        "run",
        &["--device", "gpu", "--epochs", "1", "--json"],
    );
    for variable in ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"] {
        command.env(variable, "/nowhere/none.json");
    }
    command
        .env("LIBGL_DRIVERS_PATH", "/nowhere")
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY");
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    assert!(message.contains("going on with the CPU"), "{message}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["device"], "cpu");
    assert_eq!(report["epochs"], 1);
}

#[test]
fn devices_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let message = usage_error(train(&folder, "run", &["--device", "abacus"]));
    assert!(message.contains("abacus"), "{message}");
    let report = json(train(
        &folder,
        "run",
        &["--device", "cpu", "--epochs", "1", "--json"],
    ));
    assert_eq!(report["device"], "cpu");
}
