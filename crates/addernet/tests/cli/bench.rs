//! `addernet bench`.

use crate::common::{Folder, addernet, error, json, stdout, usage_error};

#[test]
fn every_variant_is_measured_on_every_shape() {
    let bench = [
        "bench",
        "kernels",
        "--min-time",
        "0.001",
        "--threads",
        "2",
        "--json",
    ];
    let report = json(addernet(bench));
    let names: Vec<&str> = addernet::kernels::available()
        .iter()
        .map(|k| k.name())
        .collect();
    let limits = report["kernels"].as_array().unwrap();
    assert_eq!(
        limits
            .iter()
            .map(|k| k["kernel"].as_str().unwrap())
            .collect::<Vec<_>>(),
        names
    );
    assert!(
        limits
            .iter()
            .all(|k| k["l1_peak_per_second"].as_f64().unwrap() > 1e6)
    );
    assert!(
        limits
            .iter()
            .all(|k| k["fma_peak_per_second"].as_f64().unwrap() > 1e6)
    );

    let measurements = report["measurements"].as_array().unwrap();
    for threads in [1, 2] {
        for (network, adder_layers) in [("resnet20", 20), ("resnet18", 19)] {
            let layers: u64 = measurements
                .iter()
                .filter(|m| m["threads"] == threads && m["network"] == network)
                .map(|m| m["layers"].as_u64().unwrap())
                .sum();
            assert_eq!(layers, adder_layers, "{network}");
        }
    }
    for measurement in measurements {
        let results = measurement["results"].as_array().unwrap();
        assert_eq!(results.len(), names.len());
        assert!(
            results
                .iter()
                .all(|r| r["elements_per_second"].as_f64().unwrap() > 1e6)
        );
    }
}

#[test]
fn one_variant_can_be_chosen() {
    let bench = ["bench", "kernels", "--min-time", "0.001", "--kernel"];
    let report = json(addernet(bench.iter().chain(&["generic", "--json"])));
    assert_eq!(report["kernels"].as_array().unwrap().len(), 1);
    assert!(error(addernet(bench.iter().chain(&["abacus"]))).contains("abacus"));
    assert!(usage_error(addernet(["bench", "kernels", "--min-time", "0"])).contains("0.001 to 60"));
}

#[test]
fn variants_on_codes_are_measured_too() {
    let bench = ["bench", "kernels", "--codes", "--min-time", "0.001"];
    let report = json(addernet(bench.iter().chain(&["--json"])));
    let names = |list: &serde_json::Value| -> Vec<String> {
        let kernels = list.as_array().unwrap().iter();
        kernels
            .map(|k| k["kernel"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = addernet::kernels::available_u8().iter();
    let all: Vec<&str> = all.map(|kernel| kernel.name()).collect();
    assert_eq!(report["operands"], "u8");
    assert_eq!(names(&report["kernels"]), all);
    assert!(report["kernels"][0].get("fma_peak_per_second").is_none());
    for measurement in report["measurements"].as_array().unwrap() {
        assert_eq!(names(&measurement["results"]), all);
    }
    let table = stdout(addernet(bench.iter().chain(&["--kernel", "generic"])));
    assert!(table.contains("one thread on u8"), "{table}");
}

#[test]
fn a_quantized_model_is_measured_layer_by_layer() {
    let folder = Folder::new();
    folder.quantize("q.safetensors", &["--bits", "4", "--no-reestimate-bn"]);
    let path = folder.path("q.safetensors");
    let bench = |model: &std::path::Path, flags: &[&'static str]| {
        let model = model.to_str().unwrap().to_owned();
        let start = [
            "bench",
            "model",
            &model,
            "--min-time",
            "0.001",
            "--batch",
            "3",
        ];
        addernet([&start[..], flags].concat())
    };
    let report = json(bench(&path, &["--json"]));
    assert!(report["images_per_second"].as_f64().unwrap() > 1.0);
    let layers = report["layers"].as_array().unwrap();
    let adders: Vec<_> = layers
        .iter()
        .filter(|layer| layer["kind"] == "adder")
        .collect();
    assert_eq!(adders.len(), 3);
    for layer in adders {
        assert!(
            layer["elements_per_second"].as_f64().unwrap() > 0.0,
            "{layer}"
        );
    }
    let shares: f64 = layers
        .iter()
        .map(|l| l["share_of_time"].as_f64().unwrap())
        .sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    assert!(stdout(bench(&path, &[])).contains("images per second"));
    let message = error(bench(&folder.model(), &[]));
    assert!(message.contains("quantize"), "{message}");
}

#[cfg(feature = "train")]
#[test]
fn a_training_step_is_measured_pass_by_pass() {
    let bench = |flags: &[&'static str]| {
        let start = ["bench", "train", "--arch", "lenet5-bn", "--batch", "4"];
        addernet([&start[..], &["--min-time", "0.001"], flags].concat())
    };
    let report = json(bench(&["--json"]));
    assert_eq!(report["device"], "cpu");
    let positive = |value: &serde_json::Value| value.as_f64().unwrap() > 0.0;
    assert!(positive(&report["step_seconds"]) && positive(&report["forward_seconds"]));
    assert!(positive(&report["epoch_seconds"]) && positive(&report["fma_peak_per_second"]));
    let layers = report["layers"].as_array().unwrap();
    assert!(!layers.is_empty());
    for layer in layers {
        let passes = layer["passes"].as_array().unwrap();
        assert_eq!(passes.len(), 3);
        assert!(
            passes.iter().all(|p| positive(&p["elements_per_second"])),
            "{layer}"
        );
    }
    let text = stdout(bench(&[]));
    assert!(text.contains("s per epoch of CIFAR-10"), "{text}");
}
