//! The restricted pickle reader: whole images with labels in range, or an error.
#![no_main]

use std::path::Path;

use addernet_data::formats::{CifarVariant, read_cifar_pickle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for variant in [CifarVariant::Cifar10, CifarVariant::Cifar100] {
        if let Ok(samples) = read_cifar_pickle(bytes, Path::new("fuzz"), variant) {
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
