//! The real data sets, where a machine has them; skipped, saying so, where it has not.
// The lint's exception for tests does not reach the helper functions of test files.
#![allow(clippy::unwrap_used)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use addernet_data::{
    Dataset, DatasetKind, OpenOptions, Split, Transform, batches, sequential_indices,
};

/// Says on standard error that a test is skipped. `eprintln!` would be hidden: the test passes.
fn skipped(reason: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

fn open(kind: DatasetKind, dir: &Path, split: Split) -> Dataset {
    Dataset::open(kind, Some(dir), split, &OpenOptions::default()).unwrap()
}

fn mean(dataset: &Dataset) -> f64 {
    let indices = sequential_indices(dataset, None);
    let transform = Transform {
        pad_to: None,
        ..Transform::eval(dataset.kind())
    };
    let (mut sum, mut count) = (0.0, 0);
    for batch in batches(dataset, &indices, 500, &transform).unwrap() {
        let images = batch.unwrap().images;
        count += images.len();
        sum += images.iter().map(|&value| f64::from(value)).sum::<f64>();
    }
    sum / count as f64
}

/// Set `ADDERNET_CIFAR10_DIR` to the folder with CIFAR-10's files, or to its parent.
#[test]
fn cifar10() {
    let Some(dir) = env::var_os("ADDERNET_CIFAR10_DIR").map(PathBuf::from) else {
        skipped(format_args!("ADDERNET_CIFAR10_DIR is not set"));
        return;
    };
    let train = open(DatasetKind::Cifar10, &dir, Split::Train);
    let test = open(DatasetKind::Cifar10, &dir, Split::Test);
    assert_eq!((train.len(), test.len()), (50_000, 10_000));
    for dataset in [&train, &test] {
        for class in 0..10 {
            let count = dataset
                .labels()
                .iter()
                .filter(|&&label| label == class)
                .count();
            assert_eq!(count, dataset.len() / 10);
        }
    }
    // The published means are those of the training images.
    assert!(mean(&train).abs() < 1e-3, "{}", mean(&train));

    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cifar10");
    for (dataset, file) in [(train, "train-labels.bin"), (test, "test-labels.bin")] {
        match fs::read(shared.join(file)) {
            Ok(labels) => {
                let labels: Vec<u32> = labels.into_iter().map(u32::from).collect();
                assert_eq!(dataset.labels(), labels);
            }
            Err(_) => skipped(format_args!("no {file} beside the workspace")),
        }
    }
}

/// Debian's package `dataset-fashion-mnist` puts the files there.
#[test]
fn fashion_mnist() {
    let dir = Path::new("/usr/share/datasets/fashion-mnist");
    if !dir.is_dir() {
        skipped(format_args!("{} is not there", dir.display()));
        return;
    }
    let train = open(DatasetKind::FashionMnist, dir, Split::Train);
    let test = open(DatasetKind::FashionMnist, dir, Split::Test);
    assert_eq!((train.len(), test.len()), (60_000, 10_000));
    assert_eq!(train.image_shape(), [28, 28, 1]);
    for dataset in [&train, &test] {
        for class in 0..10 {
            let count = dataset
                .labels()
                .iter()
                .filter(|&&label| label == class)
                .count();
            assert_eq!(count, dataset.len() / 10);
        }
    }
    // The first training image is an ankle boot.
    assert_eq!(
        train.class_names()[train.labels()[0] as usize],
        "Ankle boot"
    );
    assert!(mean(&train).abs() < 1e-3, "{}", mean(&train));
}
