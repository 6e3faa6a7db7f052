//! `addernet eval`.

use addernet::{Accuracy, DatasetKind, Executor, Images, Split};
use addernet_graph::file::ModelFile;
use safetensors::SafeTensors;
use serde_json::json;

use crate::common::{Folder, addernet, error, eval, json, stdout};
use crate::model::lenet;

/// The tensor `logits` that `eval --logits` wrote.
pub(crate) fn read_logits(path: &std::path::Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("logits").unwrap();
    let values = tensor
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b))
        .collect();
    (tensor.shape().to_vec(), values)
}

#[test]
fn the_json_object_has_its_fixed_keys_and_the_librarys_figures() {
    let folder = Folder::new();
    let report = json(eval(&folder.model(), &["--limit", "150", "--threads", "2"]));

    let model = lenet();
    let images = Images::open(&model, DatasetKind::Shapes, None, Split::Test, None).unwrap();
    let batch = images
        .batches(&images.first(Some(150)), 150)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let executor = Executor::new(&model, addernet::kernels::select(None).unwrap()).unwrap();
    let expected = Accuracy::of(&executor.run(batch.images).unwrap(), &batch.labels);

    let mut keys: Vec<&str> = report
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    let expected_keys = [
        "dataset", "engine", "images", "kernel", "loss", "model", "seconds", "split", "threads",
        "top1", "top5",
    ];
    assert_eq!(keys, expected_keys);
    assert_eq!(report["top1"], json!(expected.top1));
    assert_eq!(report["top5"], json!(expected.top5));
    assert_eq!(report["loss"], json!(expected.loss));
    assert_eq!(report["images"], 150);
    assert_eq!(report["engine"], "float");
    assert_eq!(report["kernel"], addernet::kernels::available()[0].name());
    assert_eq!(report["threads"], 2);
    assert_eq!(report["model"], folder.model().to_str().unwrap());
    assert_eq!(
        (&report["dataset"], &report["split"]),
        (&json!("shapes"), &json!("test"))
    );
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn threads_and_kernels_change_nothing_but_the_time() {
    let folder = Folder::new();
    let figures = |flags: &[&str]| {
        let report = json(eval(&folder.model(), flags));
        ["top1", "top5", "loss", "images"].map(|key| report[key].clone())
    };
    let best = figures(&["--split", "train", "--limit", "333", "--threads", "1"]);
    assert_eq!(
        figures(&["--split", "train", "--limit", "333", "--threads", "3"]),
        best
    );
    let generic = ["--split", "train", "--limit", "333", "--kernel", "generic"];
    assert_eq!(figures(&generic), best);
}

#[test]
fn the_kernel_can_come_from_the_environment() {
    let folder = Folder::new();
    let mut command = eval(&folder.model(), &["--limit", "1"]);
    command.env("ADDERNET_KERNEL", "generic");
    assert_eq!(json(command)["kernel"], "generic");
    let mut command = eval(&folder.model(), &["--limit", "1"]);
    command.env("ADDERNET_KERNEL", "abacus");
    let message = error(command);
    assert!(
        message.contains("abacus") && message.contains("generic"),
        "{message}"
    );
}

#[test]
fn logits_are_those_of_the_library() {
    let folder = Folder::new();
    let path = folder.path("logits.safetensors");
    json(eval(
        &folder.model(),
        &["--limit", "40", "--logits", path.to_str().unwrap()],
    ));

    let model = lenet();
    let images = Images::open(&model, DatasetKind::Shapes, None, Split::Test, None).unwrap();
    let batch = images
        .batches(&images.first(Some(40)), 40)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let executor = Executor::new(&model, addernet::kernels::select(None).unwrap()).unwrap();
    let expected = executor.run(batch.images).unwrap();
    assert_eq!(
        read_logits(&path),
        (vec![40, 10], expected.iter().copied().collect())
    );
}

#[test]
fn engines_follow_the_model() {
    let folder = Folder::new();
    folder.quantize("q.safetensors", &["--bits", "4", "--no-reestimate-bn"]);
    let quantized = folder.path("q.safetensors");
    let engine = |flags: &[&str]| json(eval(&quantized, flags))["engine"].clone();
    assert_eq!(engine(&["--limit", "5"]), "integer");
    assert_eq!(
        engine(&["--limit", "5", "--engine", "simulated"]),
        "simulated"
    );
    assert_eq!(engine(&["--limit", "5", "--engine", "float"]), "float");
    let message = error(eval(&folder.model(), &["--engine", "simulated"]));
    assert!(
        message.contains("quantize it first: addernet quantize"),
        "{message}"
    );
}

#[test]
fn nudged_copies_are_evaluated_as_well() {
    let folder = Folder::new();
    folder.quantize("q.safetensors", &["--bits", "3", "--no-reestimate-bn"]);
    let quantized = folder.path("q.safetensors");
    let report = json(eval(&quantized, &["--limit", "60", "--nudged", "3"]));
    let options = addernet::ImportOptions::default();
    let model = addernet::AnyModel::open(&quantized, &options).unwrap();
    let images = Images::open(model.float(), DatasetKind::Shapes, None, Split::Test, None).unwrap();
    let kernel = addernet::kernels::select_u8(None).unwrap();
    let top1: Vec<f64> = (1..=3)
        .map(|seed| {
            let addernet::AnyModel::Quantized(copy) = model.nudged(seed).unwrap() else {
                panic!("it is quantized")
            };
            let engine = addernet::Engine::new(&copy, kernel).unwrap();
            let indices = images.first(Some(60));
            let evaluation = addernet::evaluate(&engine, &images, &indices, &()).unwrap();
            evaluation.accuracy.top1
        })
        .collect();
    let nudged = &report["nudged"];
    assert_eq!(nudged["top1"], json!(top1));
    let mean = top1.iter().sum::<f64>() / 3.0;
    assert!((nudged["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    let squares: f64 = top1.iter().map(|v| (v - mean).powi(2)).sum();
    let deviation = nudged["standard_deviation"].as_f64().unwrap();
    assert!((deviation.powi(2) - squares / 2.0).abs() < 1e-12);
    assert!(nudged["mean_loss"].as_f64().unwrap() > 0.0);
}

#[test]
fn people_get_lines() {
    let folder = Folder::new();
    let mut command = addernet(["eval".as_ref(), folder.model().as_os_str()]);
    command.args([
        "--dataset",
        "shapes",
        "--limit",
        "20",
        "--kernel",
        "generic",
        "--threads",
        "1",
        "--nudged",
        "2",
    ]);
    let text = stdout(command);
    assert!(text.contains("% on average of 2 copies, "), "{text}");
    for line in [
        "images    20 (shapes test)",
        "engine    float, generic kernel, 1 thread(s)",
    ] {
        assert!(text.lines().any(|l| l == line), "{text}");
    }
}

#[test]
fn the_models_own_normalisation_is_used() {
    let folder = Folder::new();
    let info = addernet_graph::ModelInfo {
        preprocessing: Some(addernet_graph::Preprocessing {
            mean: vec![0.9; 3],
            std: vec![0.1; 3],
        }),
        ..Default::default()
    };
    let other = folder.path("other.safetensors");
    ModelFile::from(lenet().with_info(info).unwrap())
        .write(&other)
        .unwrap();
    let loss = |model| {
        json(eval(model, &["--limit", "50"]))["loss"]
            .as_f64()
            .unwrap()
    };
    assert_ne!(loss(&other), loss(&folder.model()));
}
