//! What a recipe says of quantization-aware training.

use addernet_quant::{BITS, Reconstruction, Tuning};
use serde::{Deserialize, Serialize};

/// Quantization-aware training: bits, and what is learned from. The recipe's learning rate is a share of the rates here;
/// its momentum, weight decay, η, BN momentum and label smoothing do not apply.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Qat {
    /// Bits of the weights, 2 to 8.
    pub weight_bits: u8,
    /// Bits of the activations, 2 to 8.
    pub activation_bits: u8,
    /// Share of the labels' cross-entropy, 0 to 1; the rest is the divergence from the float network's logits.
    #[serde(default)]
    pub labels: f32,
    /// Temperature of that divergence, above 0.
    #[serde(default = "default::temperature")]
    pub temperature: f32,
    /// Weight of the relative error of the features behind every ReLU; 0 leaves it out.
    #[serde(default = "default::features")]
    pub features: f32,
    /// Share of the images of a batch, 0 to 1, that are mixed with others; without labels alone.
    #[serde(default)]
    pub mixup: f32,
    /// Learning rate of the latent weights, in steps of their codes.
    #[serde(default = "default::weight_rate")]
    pub weight_rate: f32,
    /// Learning rate of the scales' logarithms.
    #[serde(default = "default::scale_rate")]
    pub scale_rate: f32,
    /// Learning rate of BN and the classifier, relative to the parameters' own size.
    #[serde(default = "default::affine_rate")]
    pub affine_rate: f32,
    /// Training images that the activations' ranges are observed on.
    #[serde(default = "default::calibration_images")]
    pub calibration_images: usize,
}

mod default {
    use super::Tuning;

    /// Those of the tuning after training, which were chosen on held-out training images; bits decide its length alone.
    fn tuning() -> Tuning {
        Tuning::for_bits(2)
    }
    pub(super) fn temperature() -> f32 {
        tuning().temperature
    }
    pub(super) fn features() -> f32 {
        tuning().features
    }
    pub(super) fn weight_rate() -> f32 {
        tuning().weight_rate
    }
    pub(super) fn scale_rate() -> f32 {
        tuning().scale_rate
    }
    pub(super) fn affine_rate() -> f32 {
        tuning().affine_rate
    }
    pub(super) fn calibration_images() -> usize {
        2048
    }
}

impl Qat {
    /// The field that is out of its range, and what is wrong with it.
    pub(super) fn wrong_field(&self) -> Option<(&'static str, &'static str)> {
        let rate = |v: f32| v.is_finite() && v >= 0.0;
        let bits = |v| BITS.contains(&v);
        let checks = [
            ("qat.weight-bits", bits(self.weight_bits), "must be 2 to 8"),
            (
                "qat.activation-bits",
                bits(self.activation_bits),
                "must be 2 to 8",
            ),
            (
                "qat.labels",
                (0.0..=1.0).contains(&self.labels),
                "must be 0 to 1",
            ),
            (
                "qat.temperature",
                rate(self.temperature) && self.temperature > 0.0,
                "must be finite and above 0",
            ),
            (
                "qat.features",
                rate(self.features),
                "must be finite and at least 0",
            ),
            (
                "qat.mixup",
                (0.0..=1.0).contains(&self.mixup),
                "must be 0 to 1",
            ),
            (
                "qat.mixup",
                self.mixup == 0.0 || self.labels == 0.0,
                "must be 0 with labels: images that are mixed have none",
            ),
            (
                "qat.weight-rate",
                rate(self.weight_rate),
                "must be finite and at least 0",
            ),
            (
                "qat.scale-rate",
                rate(self.scale_rate),
                "must be finite and at least 0",
            ),
            (
                "qat.affine-rate",
                rate(self.affine_rate),
                "must be finite and at least 0",
            ),
            (
                "qat.calibration-images",
                self.calibration_images > 0,
                "must be at least 1",
            ),
        ];
        let wrong = checks.into_iter().find(|(_, holds, _)| !holds);
        wrong.map(|(field, _, reason)| (field, reason))
    }

    /// The learner's settings for so many steps.
    pub(crate) fn settings(&self, steps: usize) -> Reconstruction {
        Reconstruction {
            tuning: Tuning {
                steps,
                affine_rate: self.affine_rate,
                weight_rate: self.weight_rate,
                scale_rate: self.scale_rate,
                temperature: self.temperature,
                features: self.features,
                mixup: self.mixup,
                labels: self.labels,
            },
            ..Reconstruction::new(self.weight_bits, self.activation_bits)
        }
    }
}
