//! `addernet analyze`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Folder, addernet, error, json, stdout, usage_error};

fn analyze(folder: &Folder, model: &Path, flags: &[&str]) -> Command {
    let mut command = addernet(["analyze".as_ref(), model.as_os_str(), "-o".as_ref()]);
    command.arg(folder.path("report.html")).args(flags);
    command
}

const IMAGES: [&str; 4] = ["--dataset", "shapes", "--images", "40"];

/// The page, which must open without a network.
fn page(folder: &Folder) -> String {
    let page = fs::read_to_string(folder.path("report.html")).unwrap();
    for foreign in ["http:", "https:", "src=", "<link", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("prefers-color-scheme") && page.contains("width=device-width"));
    for (open, close) in [
        ("<svg", "</svg>"),
        ("<div", "</div>"),
        ("<table", "</table>"),
    ] {
        assert_eq!(page.matches(open).count(), page.matches(close).count());
    }
    page
}

/// The data that the page holds.
fn data(page: &str) -> Value {
    let start = page.split_once(r#"<script type="application/json" id="data">"#);
    let json = start.unwrap().1.split_once("</script>").unwrap().0;
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_float_model_with_images_and_a_sweep() {
    let folder = Folder::new();
    let mut sweep = addernet(["sweep".as_ref(), folder.model().as_os_str()]);
    sweep.args([
        "--dataset",
        "shapes",
        "--calibration",
        "60",
        "--limit",
        "50",
    ]);
    sweep.args(["--no-reestimate-bn", "--bits", "8,4", "--out"]);
    stdout({
        sweep.arg(folder.path("sweep"));
        sweep
    });
    let sweep = folder.path("sweep");
    let charts = folder.path("charts/of/it");
    let flags = [
        &IMAGES[..],
        &[
            "--calibration",
            "60",
            "--bits",
            "3",
            "--evaluate",
            "--limit",
            "50",
        ],
        &["--json", "--sweep", sweep.to_str().unwrap()],
        &["--charts", charts.to_str().unwrap()],
    ];
    let report = json(analyze(&folder, &folder.model(), &flags.concat()));
    let page = page(&folder);
    assert_eq!(data(&page), report);
    assert_eq!(report["accuracy"]["engine"], "float");
    assert_eq!(report["accuracy"]["images"], 50);
    assert_eq!(report["sensitivity"]["quantization"]["weight_bits"], 3);
    assert_eq!(report["sweep"]["rows"].as_array().unwrap().len(), 2);
    let layers = report["sensitivity"]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    for layer in layers {
        let node = layer["node"].as_str().unwrap();
        assert!(page.contains(&format!("<h3>{node}</h3>")), "{node}");
        assert!(layer["as_is"]["kl"].as_f64().unwrap() >= 0.0);
        assert!(layer["centred_output_snr_db"].as_f64() >= layer["output_snr_db"].as_f64());
    }
    for text in [
        "signal-to-noise ratio (dB)",
        "top-1 accuracy",
        "share of values",
        "S = ",
        "Cost per image",
        "Accuracy against energy",
        "share of the CNN's energy (%)",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // Every chart of the page is a file, and can be seen without the page.
    let mut files = 0;
    for entry in fs::read_dir(&charts).unwrap() {
        let svg = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("xmlns=") && svg.contains("<style>"));
        files += 1;
    }
    assert_eq!(files, page.matches(r#"role="img""#).count());
    let chart = |name: &str| fs::read_to_string(charts.join(name)).unwrap();
    assert!(chart("methods-accuracy-against-bits.svg").contains(">redistribution, 4 groups"));
    let node = layers[0]["node"].as_str().unwrap();
    assert!(chart(&format!("layer-{node}.svg")).contains(">input activations<"));
}

#[test]
fn a_quantized_model_alone_and_beside_the_float_one() {
    let folder = Folder::new();
    folder.quantize("q.safetensors", &["--bits", "4", "--no-reestimate-bn"]);
    let quantized = folder.path("q.safetensors");
    let alone = json(analyze(&folder, &quantized, &["--json"]));
    assert!(alone.get("sensitivity").is_none());
    let counts = &alone["distributions"][0]["codes"]["counts"];
    assert_eq!(counts.as_array().unwrap().len(), 16);
    assert!(page(&folder).contains("4-bit codes"));

    let float = folder.model();
    let reference = ["--json", "--evaluate", "--limit", "20", "--reference"];
    let flags = [&IMAGES[..], &reference, &[float.to_str().unwrap()]].concat();
    let beside = json(analyze(&folder, &quantized, &flags));
    assert_eq!(beside["accuracy"]["engine"], "integer");
    assert_eq!(
        beside["sensitivity"]["quantization"]["calibration_images"],
        200
    );
    assert_eq!(data(&page(&folder)), beside);

    let message = error(analyze(
        &folder,
        &quantized,
        &[&IMAGES[..], &["--bits", "4"]].concat(),
    ));
    assert!(message.contains("leave --bits out"), "{message}");
    let quantized = quantized.to_str().unwrap();
    let message = error(analyze(&folder, &float, &["--reference", quantized]));
    assert!(message.contains("leave --reference out"), "{message}");
}

#[test]
fn without_images_people_are_told_what_is_missing() {
    let folder = Folder::new();
    let text = stdout(analyze(&folder, &folder.model(), &[]));
    assert!(
        text.contains("3 adder layers") && text.contains("--dataset"),
        "{text}"
    );
    assert!(!page(&folder).contains("NaN"));
    assert_eq!(folder.files(), ["lenet.safetensors", "report.html"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = Folder::new();
    for flags in [["--bits", "4"], ["--images", "9"], ["--data-dir", "."]] {
        let message = usage_error(analyze(&folder, &folder.model(), &flags));
        assert!(message.contains("--dataset"), "{message}");
    }
    let missing = folder.path("nothing");
    let flags = ["--sweep", missing.to_str().unwrap()];
    let message = error(analyze(&folder, &folder.model(), &flags));
    assert!(
        message.contains("table.json") && message.contains("addernet sweep"),
        "{message}"
    );
    fs::create_dir(&missing).unwrap();
    fs::write(missing.join("table.json"), "{\"float\":").unwrap();
    let message = error(analyze(&folder, &folder.model(), &flags));
    assert!(message.contains("is no sweep's table"), "{message}");
    let before = fs::read(folder.model()).unwrap();
    let mut command = addernet([
        "analyze".as_ref(),
        folder.model().as_os_str(),
        "-o".as_ref(),
    ]);
    command.arg(folder.model());
    assert!(error(command).contains("is a model to be analysed"));
    assert_eq!(fs::read(folder.model()).unwrap(), before);
    assert_eq!(folder.files(), ["lenet.safetensors", "nothing"]);
}
