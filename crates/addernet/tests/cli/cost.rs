//! `addernet inspect --cost`, and energies in sweeps.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Folder, addernet, error, json, stdout, usage_error};

fn inspect(model: &Path, flags: &[&str]) -> Command {
    let mut command = addernet(["inspect".as_ref(), model.as_os_str()]);
    command.args(flags);
    command
}

fn energy(network: &Value, of: &str) -> f64 {
    network["energy"][of].as_f64().unwrap()
}

#[test]
fn a_float_model_at_several_widths() {
    let folder = Folder::new();
    let text = stdout(inspect(&folder.model(), &["--cost"]));
    let long = text.lines().find(|line| line.chars().count() > 110);
    assert_eq!(long, None, "{text}");
    for line in [
        "beside the same network as a CNN",
        "horowitz-2014 (45 nm",
        "Layers at 4 bits",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let report = json(inspect(&folder.model(), &["--cost", "--json"]));
    let precisions = report["cost"]["precisions"].as_array().unwrap();
    let bits: Vec<&str> = precisions
        .iter()
        .map(|p| p["bits"].as_str().unwrap())
        .collect();
    assert_eq!(bits, ["32", "8", "4"]);
    for precision in precisions {
        let (adder, cnn) = (&precision["adder"], &precision["cnn"]);
        // The terms of the command's own table; three channels make 352,800 of the first convolution's.
        let terms = report["terms"].as_u64().unwrap();
        let ordinary = 352_800 + 840;
        assert_eq!(adder["taps"]["additions"], 2 * terms + ordinary);
        assert_eq!(adder["taps"]["multiplications"], ordinary);
        assert_eq!(cnn["taps"]["multiplications"], terms + ordinary);
        for network in [adder, cnn] {
            let parts = network["energy"]["parts"].as_array().unwrap();
            let sum: f64 = parts.iter().map(|p| p["energy"].as_f64().unwrap()).sum();
            assert!((sum / energy(network, "arithmetic") - 1.0).abs() < 1e-9);
            let total = energy(network, "arithmetic") + energy(network, "traffic");
            assert!((total / energy(network, "total") - 1.0).abs() < 1e-9);
            let nodes = network["nodes"].as_array().unwrap().len();
            assert_eq!(network["node_energies"].as_array().unwrap().len(), nodes);
        }
        assert!(energy(adder, "arithmetic") < energy(cnn, "arithmetic"));
    }
    assert!(
        json(inspect(&folder.model(), &["--json"]))
            .get("cost")
            .is_none()
    );
}

#[test]
fn a_quantized_model_has_its_own_bits_and_scales() {
    let folder = Folder::new();
    let flags = ["--bits", "3", "--no-reestimate-bn", "--no-weight-clamp"];
    folder.quantize("q.safetensors", &flags);
    let quantized = folder.path("q.safetensors");
    let report = json(inspect(&quantized, &["--cost", "--json"]));
    let precisions = report["cost"]["precisions"].as_array().unwrap();
    assert_eq!(precisions.len(), 1);
    assert_eq!(precisions[0]["bits"], "3");
    let nodes = precisions[0]["adder"]["nodes"].as_array().unwrap();
    let conv2 = nodes.iter().find(|node| node["node"] == "conv2").unwrap();
    let work = conv2["work"].as_array().unwrap();
    let count = |part: &str, operation: &str| {
        let found = work
            .iter()
            .find(|w| w["part"] == part && w["operation"] == operation);
        found.map_or(0, |w| w["count"].as_u64().unwrap())
    };
    assert_eq!(count("taps", "add"), 240_000);
    // Its input, 14x14x6 values behind a pooling layer, is requantized once per scale.
    let scales = report["layers"][0]["quantization"]["groups"]
        .as_u64()
        .unwrap();
    assert!(scales > 1);
    assert_eq!(count("requantize", "multiply"), scales * 14 * 14 * 6);
    assert_eq!(count("taps", "compare"), 0);
    let flags = ["--cost", "--cost-maximum-form", "--json"];
    let report = json(inspect(&quantized, &flags));
    assert_eq!(report["cost"]["form"], "maximum");
    let adder = &report["cost"]["precisions"][0]["adder"];
    assert!(adder["taps"]["comparisons"].as_u64().unwrap() > 0);
    let parts = adder["energy"]["parts"].as_array().unwrap();
    assert!(parts.iter().any(|part| part["part"] == "box-filter"));
}

#[test]
fn energies_of_ones_own() {
    let folder = Folder::new();
    let path = folder.path("chip.toml");
    let file = path.to_str().unwrap();
    let built_in = addernet::EnergyModel::built_in_toml("horowitz-2014").unwrap();
    let costs = |name: &str| {
        let flags = [
            "--cost",
            "--cost-bits",
            "8",
            "--json",
            "--energy-model",
            name,
        ];
        json(inspect(&folder.model(), &flags))["cost"].clone()
    };
    fs::write(&path, built_in).unwrap();
    assert_eq!(costs(file), costs("horowitz-2014"));
    let doubled = built_in
        .replace("8 = 0.2", "8 = 0.4")
        .replace("32 = 3.1", "32 = 6.2");
    fs::write(
        &path,
        doubled.replace("name = \"horowitz-2014\"", "name = \"chip\""),
    )
    .unwrap();
    let (own, published) = (costs(file), costs("horowitz-2014"));
    assert_eq!(own["energy_model"]["name"], "chip");
    let of = |cost: &Value, network: &str| energy(&cost["precisions"][1][network], "arithmetic");
    // Both have multiplications, the CNN more.
    let ratio = |network| of(&own, network) / of(&published, network);
    assert!(ratio("cnn") > ratio("adder") && ratio("adder") > 1.0);
    let exact = costs("horowitz-2014-exact");
    assert!(of(&exact, "adder") > of(&published, "adder"));

    for (text, expected) in [
        (
            built_in.replace("8 = 0.2", "8 = -1"),
            "`integer.multiply.8`: must be pJ above 0",
        ),
        (
            built_in.replace("[float.add]", "[float.sub]"),
            "unknown field `sub`",
        ),
        ("\u{1b}[31m".to_owned(), "line 1:"),
        (String::new(), "missing field `name`"),
    ] {
        fs::write(&path, text).unwrap();
        let flags = ["--cost", "--energy-model", file];
        let message = error(inspect(&folder.model(), &flags));
        assert!(
            message.contains(expected) && message.contains(file),
            "{message}"
        );
        assert!(!message.contains('\u{1b}'), "{message}");
    }
    let flags = ["--cost", "--energy-model", "none.toml"];
    let message = error(inspect(&folder.model(), &flags));
    assert!(
        message.contains("none.toml") && message.contains("built-in"),
        "{message}"
    );
}

#[test]
fn flags_about_cost_are_checked() {
    let folder = Folder::new();
    for (flags, expected) in [
        (&["--energy-model", "horowitz-2014"][..], "--cost"),
        (&["--cost-bits", "4"], "--cost"),
        (&["--cost-groups", "4"], "--cost"),
        (&["--cost", "--cost-bits", "4,9"], "2..=8"),
        (&["--cost", "--cost-groups", "0"], "1..=255"),
        (&["--cost", "--cost-image", "32"], "as in 224x224"),
        (&["--cost", "--cost-image", "0x32"], "as in 224x224"),
    ] {
        let message = usage_error(inspect(&folder.model(), flags));
        assert!(message.contains(expected), "{flags:?}: {message}");
    }
    // LeNet's classifier is for one image size.
    let message = error(inspect(
        &folder.model(),
        &["--cost", "--cost-image", "64x64"],
    ));
    assert!(message.contains("`fc1`"), "{message}");
    let message = error(inspect(
        &folder.model(),
        &["--cost", "--cost-image", "1000000x1000000"],
    ));
    assert!(
        message.contains("extent") || message.contains("values"),
        "{message}"
    );
}

#[test]
fn a_sweep_has_energies_and_a_chart() {
    let folder = Folder::new();
    let sweep = |flags: &[&str]| {
        let mut command = addernet(["sweep".as_ref(), folder.model().as_os_str()]);
        command.args([
            "--dataset",
            "shapes",
            "--calibration",
            "60",
            "--limit",
            "50",
        ]);
        command.args(["--no-reestimate-bn", "--bits", "8,3", "--methods"]);
        command.args(["redistribution,shared-scale", "--json", "--out"]);
        command.arg(folder.path("out")).args(flags);
        json(command)
    };
    let report = sweep(&[]);
    assert_eq!(report["energy_model"], "horowitz-2014");
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        let cost = |of: &str| row["cost"][of].as_f64().unwrap();
        assert!(cost("arithmetic") < cost("cnn_arithmetic") && cost("total") < cost("cnn_total"));
    }
    assert!(rows[1]["cost"]["arithmetic"].as_f64() < rows[0]["cost"]["arithmetic"].as_f64());
    let chart = fs::read_to_string(folder.path("out/pareto.svg")).unwrap();
    assert!(chart.starts_with("<svg ") && chart.contains("redistribution, 4 groups"));
    for foreign in ["href", "<script", "url(", "NaN", "inf"] {
        assert!(!chart.contains(foreign), "{foreign}");
    }
    // Another energy model needs no cell done again.
    let exact = sweep(&["--energy-model", "horowitz-2014-exact"]);
    assert_eq!(exact["computed"], 0);
    assert!(
        exact["rows"][0]["cost"]["arithmetic"].as_f64() > rows[0]["cost"]["arithmetic"].as_f64()
    );
    // Cells of a version that did not know what models are made of.
    let cell = folder.path("out/runs/shared-scale-8bit-1group-60images-seed0.json");
    let mut old: Value = serde_json::from_slice(&fs::read(&cell).unwrap()).unwrap();
    old["result"]
        .as_object_mut()
        .unwrap()
        .remove("precision")
        .unwrap();
    fs::write(&cell, serde_json::to_vec(&old).unwrap()).unwrap();
    let report = sweep(&[]);
    assert_eq!(report["computed"], 0);
    assert!(report["rows"][2].get("cost").is_none() && report["rows"][0].get("cost").is_some());
}
