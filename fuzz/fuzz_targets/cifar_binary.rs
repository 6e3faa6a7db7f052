//! The reader of CIFAR's binary version: whole records with labels in range, or an error.
#![no_main]

use std::path::Path;

use addernet_data::formats::{CifarVariant, read_cifar_binary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (variant, record) in [
        (CifarVariant::Cifar10, 3073),
        (CifarVariant::Cifar100, 3074),
    ] {
        if let Ok(samples) = read_cifar_binary(bytes, Path::new("fuzz"), variant) {
            assert_eq!(samples.labels.len() * record, bytes.len());
            assert_eq!(samples.labels.len() * 3072, samples.images.len());
            assert!(
                samples
                    .labels
                    .iter()
                    .all(|&label| (label as usize) < variant.classes())
            );
        }
    }
});
