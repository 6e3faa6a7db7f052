//! The baseline: one scale for everything.

use super::{FloatLayer, Method};
use crate::error::QuantError;
use crate::format::{CodeFormat, check_bits};
use crate::layer::{Group, QuantizedLayer};

/// One symmetric scale per layer for weights and activations (Wang et al. 2021, arXiv 2101.10015,
/// section 3.2): S = max(max|w|, activation range), codes over [−S, S] for both.
///
/// Since weights span about twenty times the activations' range, few codes are left to the
/// activations: it collapses below 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedScale {
    /// Bits of weights and activations, 2 to 8.
    pub bits: u8,
}

impl Method for SharedScale {
    fn quantize(&self, layer: &FloatLayer<'_>) -> Result<QuantizedLayer, QuantError> {
        let bits = check_bits(self.bits)?;
        let format = CodeFormat {
            bits,
            signed: true,
            multiplier: 1,
        };
        let weight_range = layer.kernel_ranges().into_iter().fold(0.0, f32::max);
        let scale = weight_range.max(layer.range.bound);
        let levels = (1u16 << (bits - 1)) - 1;
        Ok(QuantizedLayer {
            weight_format: format,
            activation_format: format,
            groups: vec![Group { scale, levels }],
            group_of: vec![0; layer.attributes.out_channels],
            codes: layer
                .weights
                .iter()
                .map(|&w| format.encode(w, scale, levels))
                .collect(),
            bias: layer.bias_or_zeros(),
            range: layer.range,
        })
    }
}
