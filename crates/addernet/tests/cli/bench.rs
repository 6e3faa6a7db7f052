//! `addernet bench kernels`.

use crate::common::{addernet, error, json, usage_error};

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
