//! The paper's method: group-shared scales, lossless weight clamp, outlier clamp.

use super::{FloatLayer, Method};
use crate::clamp::clamp_kernel;
use crate::error::QuantError;
use crate::format::{CodeFormat, check_bits};
use crate::group::group_kernels;
use crate::layer::{Group, QuantizedLayer};

/// Redistribution of weights and activations (Nie et al., NeurIPS 2022, section 3).
///
/// 1. Kernels are grouped by max|w|; each group has a scale S of its own.
/// 2. With the weight clamp, S = min(max|w| in the group, activation range); weights are clamped to
///    ±S and the remainder goes into the bias, which loses nothing as long as the activations
///    stay within S.
/// 3. Weights have 2^b codes over [−S, S], activations 2^b codes over [0, S] (over [−S, S] where the
///    layer does not stand behind a ReLU).
///
/// The outlier clamp is part of the activation range that calibration hands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redistribution {
    /// Bits of weights and activations, 2 to 8.
    pub bits: u8,
    /// Groups per layer, at most the number of its kernels.
    pub groups: usize,
    /// Whether weights are clamped into the activations' range. Without it (an ablation) S must
    /// cover both ranges: S = max(max|w| in the group, activation range).
    pub weight_clamp: bool,
}

impl Method for Redistribution {
    fn quantize(&self, layer: &FloatLayer<'_>) -> Result<QuantizedLayer, QuantError> {
        let bits = check_bits(self.bits)?;
        let levels = (1u16 << bits) - 1;
        let weight_format = CodeFormat {
            bits,
            signed: true,
            multiplier: 2,
        };
        let activation_format = match layer.non_negative_input {
            true => CodeFormat {
                bits,
                signed: false,
                multiplier: 1,
            },
            false => weight_format,
        };
        let ranges = layer.kernel_ranges();
        let assigned = group_kernels(layer.node, &ranges, self.groups)?;
        let (groups, group_of) = self.scales(layer, &ranges, &assigned, levels)?;

        let taps = layer.taps();
        let mut bias = layer.bias_or_zeros();
        let mut codes = Vec::with_capacity(layer.weights.len());
        for (o, kernel) in layer.weights.chunks_exact(taps).enumerate() {
            let Group { scale, levels } = groups[group_of[o]];
            let mut kernel = kernel.to_vec();
            if self.weight_clamp {
                bias[o] += clamp_kernel(&mut kernel, -scale, scale);
            }
            codes.extend(
                kernel
                    .iter()
                    .map(|&w| weight_format.encode(w, scale, levels)),
            );
        }
        let range = layer.range;
        Ok(QuantizedLayer {
            weight_format,
            activation_format,
            groups,
            group_of,
            codes,
            bias,
            range,
        })
    }
}

impl Redistribution {
    /// One scale per group. Groups that end up with the same scale become one: their activations
    /// need to be quantized only once.
    fn scales(
        &self,
        layer: &FloatLayer<'_>,
        ranges: &[f32],
        assigned: &[usize],
        levels: u16,
    ) -> Result<(Vec<Group>, Vec<usize>), QuantError> {
        let count = assigned.iter().max().map_or(0, |&last| last + 1);
        let mut weight_ranges = vec![0.0f32; count];
        for (&group, &range) in assigned.iter().zip(ranges) {
            weight_ranges[group] = weight_ranges[group].max(range);
        }
        let activation_range = layer.range.bound;
        let scale = |weight_range: f32| match self.weight_clamp {
            // A kernel of zeros has no range; any scale stands for it, and this one clamps nothing.
            true if weight_range == 0.0 => activation_range,
            true => weight_range.min(activation_range),
            false => weight_range.max(activation_range),
        };
        let mut groups: Vec<Group> = Vec::new();
        let mut index_of = Vec::with_capacity(count);
        for weight_range in weight_ranges {
            let scale = scale(weight_range);
            let group = Group { scale, levels };
            if group.step() < f32::MIN_POSITIVE {
                let reason = format!("a scale of {scale:e} is too small to be divided into steps");
                return Err(QuantError::layer(layer.node, reason));
            }
            let index = groups
                .iter()
                .position(|&g| g == group)
                .unwrap_or(groups.len());
            if index == groups.len() {
                groups.push(group);
            }
            index_of.push(index);
        }
        Ok((
            groups,
            assigned.iter().map(|&group| index_of[group]).collect(),
        ))
    }
}
