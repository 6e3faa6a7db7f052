//! `addernet sweep`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::{Folder, addernet, error, eval, json, stdout, usage_error};

/// A quick sweep of the small network into `folder/out`, with further flags.
fn sweep(folder: &Folder, flags: &[&str]) -> Command {
    let mut command = addernet(["sweep".as_ref(), folder.model().as_os_str()]);
    command.args(["--dataset", "shapes"]);
    if !flags.contains(&"--calibration") {
        command.args(["--calibration", "60"]);
    }
    command.args(["--limit", "50", "--no-reestimate-bn", "--out"]);
    command.arg(folder.path("out")).args(flags);
    command
}

const GRID: [&str; 7] = [
    "--methods",
    "redistribution,shared-scale",
    "--bits",
    "8,4",
    "--groups",
    "1,2",
    "--json",
];

/// Names and contents of the cells' files.
fn runs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder.join("runs")).unwrap();
    let mut runs: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    runs.sort();
    runs
}

/// The JSON object and the notices of a sweep that must succeed.
fn run(mut command: Command) -> (Value, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{stderr}");
    (serde_json::from_slice(&stdout).unwrap(), stderr)
}

#[test]
fn a_killed_sweep_goes_on_and_only_what_is_missing_is_done() {
    let folder = Folder::new();
    let out = folder.path("out");
    let first = json(sweep(&folder, &GRID));
    // Two widths for two numbers of groups and for the baseline, which has none; and the float model.
    assert_eq!(
        (&first["computed"], &first["reused"]),
        (&6.into(), &0.into())
    );
    let before = runs(&out);
    assert_eq!(before.len(), 7);

    let again = json(sweep(&folder, &GRID));
    assert_eq!(
        (&again["computed"], &again["reused"]),
        (&0.into(), &6.into())
    );
    assert_eq!(again["rows"], first["rows"]);
    assert!(runs(&out) == before);

    let name = "redistribution-4bit-2group-60images-seed0.json";
    fs::remove_file(out.join("runs").join(name)).unwrap();
    let mended = json(sweep(&folder, &GRID));
    assert_eq!(
        (&mended["computed"], &mended["reused"]),
        (&1.into(), &5.into())
    );
    for ((name_before, before), (name_after, after)) in before.iter().zip(runs(&out)) {
        assert_eq!(*name_before, name_after);
        // Times differ, or the file was left alone.
        assert!(*before == after || name_after == name, "{name_after}");
    }
}

#[test]
fn damaged_and_outdated_cells_are_done_again_with_a_notice() {
    let folder = Folder::new();
    let flags = ["--bits", "4", "--json"];
    let first = json(sweep(&folder, &flags));
    let cell = folder.path("out/runs/redistribution-4bit-4group-60images-seed0.json");
    let whole = fs::read(&cell).unwrap();
    for damaged in [
        &whole[..whole.len() / 2],
        b"",
        b"{}",
        b"[1]",
        b"null",
        b"\xff",
    ] {
        fs::write(&cell, damaged).unwrap();
        let (report, notice) = run(sweep(&folder, &flags));
        assert_eq!(report["computed"], 1);
        assert_eq!(report["rows"][0]["figures"], first["rows"][0]["figures"]);
        assert_eq!(notice.lines().count(), 1, "{notice}");
        let path = cell.to_str().unwrap();
        assert!(
            notice.contains(path) && notice.contains("doing it again"),
            "{notice}"
        );
    }
    let (report, notice) = run(sweep(
        &folder,
        &[&flags[..], &["--outlier-quantile", "1"]].concat(),
    ));
    assert_eq!(report["computed"], 1);
    assert!(notice.contains("another outlier_quantile"), "{notice}");
    // Another file under the same name: both the cell and the float model's accuracy are outdated.
    folder.quantize("q.safetensors", &["--bits", "8", "--no-reestimate-bn"]);
    let mut bytes = fs::read(folder.model()).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&0.5f32.to_le_bytes());
    fs::write(folder.model(), bytes).unwrap();
    let (report, notice) = run(sweep(&folder, &flags));
    assert_eq!(report["computed"], 1);
    assert!(
        notice.contains("float.json") && notice.contains("model_sha256"),
        "{notice}"
    );
    let mut command = addernet(["sweep".as_ref(), folder.path("q.safetensors").as_os_str()]);
    command.args(["--dataset", "shapes", "--bits", "4", "--out", "x"]);
    assert!(error(command).contains("is quantized already"));
}

#[test]
fn tables_say_what_the_cells_say_and_models_are_kept() {
    let folder = Folder::new();
    let flags = ["--bits", "6", "--seeds", "0,1", "--keep-models"];
    let text = stdout(sweep(&folder, &flags));
    let out = folder.path("out");
    assert_eq!(fs::read_to_string(out.join("table.md")).unwrap(), text);
    let row = text
        .lines()
        .find(|line| line.contains("| redistribution | 6 | 4 | 60 | 2 |"));
    assert!(
        row.is_some_and(|row| row.contains("–") && row.contains('(')),
        "{text}"
    );
    let csv = fs::read_to_string(out.join("table.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2, "{csv}");
    assert!(
        csv.lines().all(|line| line.split(',').count() == 25),
        "{csv}"
    );
    let table: Value = serde_json::from_slice(&fs::read(out.join("table.json")).unwrap()).unwrap();
    let read = |seed: usize| -> Value {
        let name = format!("runs/redistribution-6bit-4group-60images-seed{seed}.json");
        serde_json::from_slice(&fs::read(out.join(name)).unwrap()).unwrap()
    };
    let mut sum = 0.0;
    for seed in 0..2 {
        let result = read(seed)["result"]["without_bn_reestimation"].clone();
        sum += result["simulated"]["top1"].as_f64().unwrap();
        let model = out.join(format!(
            "models/redistribution-6bit-4group-60images-seed{seed}.safetensors"
        ));
        let report = json(eval(&model, &["--limit", "50"]));
        assert_eq!(report["top1"], result["integer"]["top1"]);
    }
    let mean = table["rows"][0]["figures"][0]["top1"]["mean"]
        .as_f64()
        .unwrap();
    assert!((mean - sum / 2.0).abs() < 1e-12);
    assert_eq!(table["float"]["images"], 50);
}

#[test]
fn ablations_widths_and_calibrations_are_rows_of_their_own() {
    let folder = Folder::new();
    let flags = [
        "--methods",
        "redistribution,activation-oriented",
        "--bits",
        "2/4",
        "--without",
        "none,outlier-clamp,mixup",
        "--calibration",
        "30,60",
    ];
    let mut command = sweep(&folder, &flags);
    command.arg("--json");
    let report = json(command);
    let rows: Vec<(String, Value, u64, Value)> = (report["rows"].as_array().unwrap().iter())
        .map(|row| {
            let bits = row["weight_bits"].as_u64().unwrap() * 10
                + row["activation_bits"].as_u64().unwrap();
            let method = row["method"].as_str().unwrap().to_owned();
            (
                method,
                row["without"].clone(),
                bits,
                row["calibration_images"].clone(),
            )
        })
        .collect();
    let clamp = Value::from("outlier-clamp");
    let expected = [("redistribution", 44), ("activation-oriented", 24)].map(|(method, bits)| {
        [Value::Null, clamp.clone()].map(|without| {
            [30, 60].map(|images| {
                (
                    method.to_owned(),
                    without.clone(),
                    bits,
                    Value::from(images),
                )
            })
        })
    });
    assert_eq!(rows, expected.as_flattened().as_flattened());
    let chart = fs::read_to_string(folder.path("out/pareto.svg")).unwrap();
    assert!(chart.contains("redistribution without outlier-clamp, 4 groups, 30 images"));
}

#[test]
fn lists_are_checked() {
    let folder = Folder::new();
    for (flags, expected) in [
        (&["--bits", "4,9"][..], "bits are 2 to 8"),
        (&["--bits", "2/"], "bits are 2 to 8"),
        (&["--bits", "4", "--without", "care"], "`care` is unknown"),
        (&["--bits", "4", "--methods", "magic"], "redistribution"),
        (&["--bits", "4", "--groups", "0"], "1..=255"),
        (&["--bits", "4", "--seeds", "a"], "--seeds"),
        (&["--bits", "4", "--seeds", "1", "--seed", "2"], "--seed"),
        (&[], "--bits"),
    ] {
        let message = usage_error(sweep(&folder, flags));
        assert!(message.contains(expected), "{flags:?}: {message}");
    }
    let message = error(sweep(&folder, &["--bits", "4", "--groups", "2,17"]));
    assert!(message.contains("layer `conv2`"), "{message}");
    assert_eq!(folder.files(), ["lenet.safetensors"]);
    fs::write(folder.path("out"), "a file").unwrap();
    let message = error(sweep(&folder, &["--bits", "4"]));
    assert!(
        message.contains("out") && message.contains("another --out"),
        "{message}"
    );
}
