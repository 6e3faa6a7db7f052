//! The real ResNet-20, bit for bit.

use crate::common::{self, Numbers};
use addernet_engine::Program;
use addernet_graph::import::{self, ImportOptions};
use addernet_graph::{Model, ModelInfo, Preprocessing};
use addernet_quant::Redistribution;

/// The authors' checkpoint, if it is there.
pub(crate) fn checkpoint() -> Option<Model> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/models/resnet20-addernet-cifar10.pth"
    );
    if !std::path::Path::new(path).exists() {
        eprintln!("skipped: {path} is not there");
        return None;
    }
    let model = import::load(path, &ImportOptions::default()).unwrap();
    let preprocessing = Preprocessing {
        mean: vec![0.4914, 0.4822, 0.4465],
        std: vec![0.2023, 0.1994, 0.2010],
    };
    let info = ModelInfo {
        preprocessing: Some(preprocessing),
        ..ModelInfo::default()
    };
    Some(model.with_info(info).unwrap())
}

#[test]
fn all_kernels_threads_and_batches_give_the_bits_of_the_reference() {
    let Some(model) = checkpoint() else { return };
    for bits in [8, 4, 2] {
        let mut numbers = Numbers::new(u64::from(bits));
        let method = Redistribution {
            bits,
            groups: 4,
            weight_clamp: true,
        };
        let quantized = common::quantize(&model, &method, &mut numbers);
        let pixels = numbers.pixels(10 * 32 * 32 * 3);
        let all = common::same_logits_everywhere(&quantized, &pixels, 10, &[1, 2, 4]);
        let one = common::same_logits_everywhere(&quantized, &pixels[..32 * 32 * 3], 1, &[1, 2, 4]);
        assert_eq!(all[..10], one);
        assert!(
            all.chunks_exact(10).any(|logits| logits != one),
            "{bits} bits: all images are the same"
        );
    }
}

#[test]
fn several_scales_and_signed_activations_run_too() {
    let Some(model) = checkpoint() else { return };
    let mut numbers = Numbers::new(3);
    for (groups, weight_clamp) in [(4, false), (2, true)] {
        let method = Redistribution {
            bits: 6,
            groups,
            weight_clamp,
        };
        let quantized = common::quantize(&model, &method, &mut numbers);
        let pixels = numbers.pixels(2 * 32 * 32 * 3);
        common::same_logits_everywhere(&quantized, &pixels, 1, &[1]);
    }
}

#[test]
fn every_accumulator_has_room() {
    let Some(model) = checkpoint() else { return };
    let mut numbers = Numbers::new(0);
    let method = Redistribution {
        bits: 8,
        groups: 1,
        weight_clamp: true,
    };
    let quantized = common::quantize(&model, &method, &mut numbers);
    let program = Program::lower(&quantized).unwrap();
    // The first convolution, 20 adder layers, the classifier.
    assert_eq!(program.headroom().len(), 22);
    for layer in program.headroom() {
        assert!(
            layer.sum <= i64::from(i32::MAX) || layer.sum_bits == 64,
            "{layer:?}"
        );
        assert!(
            layer.product <= i64::from(i32::MAX) || layer.product_bits == 64,
            "{layer:?}"
        );
        // Σ|x − w| of 8-bit codes.
        if layer.node.contains("layer") {
            assert!(layer.sum <= 255 * layer.taps as i64, "{layer:?}");
        }
    }
}
