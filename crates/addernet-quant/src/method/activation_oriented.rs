//! Weights on the activations' grid.

use super::{FloatLayer, Method};
use crate::clamp::clamp_kernel;
use crate::error::QuantError;
use crate::format::{CodeFormat, check_bits, common_grid};
use crate::layer::{Group, QuantizedLayer};

/// Activation-oriented quantization (AdderNet 2.0, DAC 2024): the activations' range S is the one scale of
/// the layer, and weights are cut to it.
///
/// What is cut off becomes a bias, which loses nothing as long as the activations stay within S. Behind
/// a ReLU no weight is negative after that, so that weights and activations have unsigned codes on the
/// same grid: twice the resolution of signed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationOriented {
    /// Bits of the weights, 2 to 8.
    pub weight_bits: u8,
    /// Bits of the activations, 2 to 8.
    pub activation_bits: u8,
}

impl Method for ActivationOriented {
    fn quantize(&self, layer: &FloatLayer<'_>) -> Result<QuantizedLayer, QuantError> {
        let bits = [
            check_bits(self.weight_bits)?,
            check_bits(self.activation_bits)?,
        ];
        let grid = Grid::new(layer.range.bound, bits, !layer.non_negative_input);
        let (clamped, bias) = grid.clamp(layer.weights, &layer.bias_or_zeros());
        let Group { scale, levels } = grid.group;
        Ok(QuantizedLayer {
            weight_format: grid.weight,
            activation_format: grid.activation,
            groups: vec![grid.group],
            group_of: vec![0; layer.attributes.out_channels],
            codes: clamped
                .iter()
                .map(|&w| grid.weight.encode(w, scale, levels))
                .collect(),
            bias,
            range: layer.range,
        })
    }
}

/// One grid for a layer's weights and activations, both of which span the scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) group: Group,
    pub(crate) weight: CodeFormat,
    pub(crate) activation: CodeFormat,
}

impl Grid {
    /// Codes over [0, scale], or [−scale, scale] if `signed`.
    pub(crate) fn new(scale: f32, bits: [u8; 2], signed: bool) -> Self {
        let [weight, activation] = common_grid(bits, signed);
        let top = |format: CodeFormat| format.units(format.max());
        let levels = top(activation).max(top(weight)) as u16;
        Self {
            group: Group { scale, levels },
            weight,
            activation,
        }
    }

    /// Worth of a step of the weights' codes.
    pub(crate) fn weight_step(&self) -> f32 {
        self.group.step() * f32::from(self.weight.multiplier)
    }

    /// Weights (OIHW) cut to the range of their codes, and `bias` (O) with what was cut off.
    pub(crate) fn clamp(&self, weights: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let step = self.weight_step();
        let [low, high] = [self.weight.min(), self.weight.max()].map(|code| code as f32 * step);
        let mut clamped = weights.to_vec();
        let taps = weights.len() / bias.len().max(1);
        let bias = clamped
            .chunks_exact_mut(taps.max(1))
            .zip(bias)
            .map(|(kernel, bias)| bias + clamp_kernel(kernel, low, high))
            .collect();
        (clamped, bias)
    }
}
