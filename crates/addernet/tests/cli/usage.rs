//! Command lines that cannot be.

use crate::common::{Folder, addernet, error, stdout, usage_error};

#[test]
fn impossible_values_are_usage_errors_that_name_the_flag_and_its_range() {
    let folder = Folder::new();
    let model = folder.model();
    let model = model.to_str().unwrap();
    let quantize = [
        "quantize",
        model,
        "--dataset",
        "shapes",
        "-o",
        "q.safetensors",
    ];
    for (flags, expected) in [
        (&["--bits", "0"][..], "2..=8"),
        (&["--bits", "1"], "2..=8"),
        (&["--bits", "9"], "2..=8"),
        (&["--bits", "four"], "--bits"),
        (&["--bits", "4", "--groups", "0"], "1..=255"),
        (&["--bits", "4", "--groups", "300"], "1..=255"),
        (
            &["--bits", "4", "--method", "magic"],
            "auto, reconstruction, redistribution, activation-oriented, shared-scale",
        ),
        (&["--weight-bits", "2"], "--bits"),
        (&["--bits", "4", "--weight-bits", "1"], "2..=8"),
        (&["--bits", "4", "--weight-bits", "2"], "the same bits"),
        (
            &["--bits", "4", "--tuning-epochs", "1"],
            "--tuning-epochs means nothing to --method redistribution",
        ),
        (&["--bits", "4", "--calibration", "0"], "--calibration"),
        (&["--bits", "4", "--bn-images", "1"], "--bn-images"),
        (
            &["--bits", "4", "--outlier-quantile", "0"],
            "above 0 and at most 1",
        ),
        (
            &["--bits", "4", "--outlier-quantile", "nan"],
            "above 0 and at most 1",
        ),
        (
            &["--bits", "4", "--no-reestimate-bn", "--bn-images", "500"],
            "--no-reestimate-bn",
        ),
        (&["--bits", "4", "--threads", "0"], "1..=1024"),
        (&["--bits", "4", "--threads", "1000000"], "1..=1024"),
        (&["--bits", "4", "--arch", "resnet19"], "resnet20"),
        (&[], "--bits"),
    ] {
        let message = usage_error(addernet(quantize.iter().chain(flags)));
        assert!(message.contains(expected), "{flags:?}: {message}");
    }
    let eval = ["eval", model];
    for (flags, expected) in [
        (&["--engine", "abacus"][..], "float, simulated, integer"),
        (&["--split", "validation"], "test, train"),
        (&["--limit", "0"], "--limit"),
        (&["--dataset", "imagenet"], "imagefolder, shapes"),
    ] {
        let message = usage_error(addernet(eval.iter().chain(flags)));
        assert!(message.contains(expected), "{flags:?}: {message}");
    }
    assert!(usage_error(addernet(["eval", model])).contains("--dataset"));
    assert!(usage_error(addernet(["download", "shapes", "--data-dir", "x"])).contains("cifar10"));
    assert!(usage_error(addernet(["frobnicate"])).contains("frobnicate"));
    assert_eq!(folder.files(), ["lenet.safetensors"]);
}

#[test]
fn the_last_of_two_opposite_flags_counts() {
    let folder = Folder::new();
    let bn = |flags: &[&str]| {
        let common = ["--bits", "8", "--bn-images", "150"];
        folder.quantize("q.safetensors", &[&common, flags].concat())["bn_images"].clone()
    };
    assert_eq!(bn(&["--no-reestimate-bn", "--reestimate-bn"]), 150);
    let none = folder.quantize(
        "q.safetensors",
        &["--bits", "8", "--reestimate-bn", "--no-reestimate-bn"],
    );
    assert_eq!(none["bn_images"], 0);
}

#[test]
fn more_groups_than_kernels_name_the_layer() {
    let folder = Folder::new();
    let mut command = addernet(["quantize".as_ref(), folder.model().as_os_str()]);
    command.args(["--bits", "4", "--groups", "17", "--dataset", "shapes", "-o"]);
    command.arg(folder.path("q.safetensors"));
    let message = error(command);
    assert!(
        message.contains("layer `conv2`") && message.contains("only 16 kernels"),
        "{message}"
    );
}

#[test]
fn help_teaches_with_examples() {
    for verb in [
        &["eval"][..],
        &["quantize"],
        &["inspect"],
        &["analyze"],
        &["sweep"],
        &["download"],
        &["bench", "kernels"],
    ] {
        let help = stdout(addernet(verb.iter().chain(&["--help"])));
        let example = format!("addernet {}", verb.join(" "));
        assert!(
            help.contains("Examples:") && help.matches(&example).count() >= 2,
            "{help}"
        );
    }
    assert!(stdout(addernet(["--version"])).starts_with("addernet "));
    assert!(usage_error(addernet([""; 0])).contains("Usage: addernet"));
}
