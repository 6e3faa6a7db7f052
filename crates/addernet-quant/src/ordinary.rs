//! Ordinary layers: convolutions and classifiers, which multiply.

use addernet_graph::{Model, Op};

use crate::error::QuantError;

/// The largest code's magnitude: 8 bits, symmetric.
const LARGEST: f64 = 127.0;

/// Weights of one kernel of an ordinary layer as codes of 8 bits, −127 to 127: w ≈ code · step (docs/INTEGER.md).
#[derive(Clone, Debug, PartialEq)]
pub struct OrdinaryKernel {
    /// The codes, one per weight; all 0 if the weights are.
    pub codes: Vec<i8>,
    /// What a step of the code is worth: max|w|/127.
    pub step: f64,
}

impl OrdinaryKernel {
    /// Rounds `weights`, halves to even.
    pub fn quantize(weights: &[f64]) -> Self {
        let largest = weights.iter().fold(0.0f64, |m, w| m.max(w.abs()));
        let step = largest / LARGEST;
        let code = |&w: &f64| match step > 0.0 {
            true => (w / step).round_ties_even().clamp(-LARGEST, LARGEST) as i8,
            false => 0,
        };
        Self {
            codes: weights.iter().map(code).collect(),
            step,
        }
    }
}

/// `model` with the weights of its ordinary convolutions and linear layers rounded to 8 bits, each kernel with a step of
/// its own, max|w|/127: what the integer engine makes of them (docs/INTEGER.md), so that a simulation and the engine
/// run the same weights. Rounding twice changes nothing.
///
/// A convolution of the image is rounded in units of a pixel, as it runs there: after its weights were divided by
/// the standard deviation of their channel.
///
/// # Errors
/// If a parameter is missing.
pub fn round_ordinary(model: &Model) -> Result<Model, QuantError> {
    let mut parameters = model.parameters().clone();
    for node in model.graph().nodes() {
        let (kernels, std) = match (node.op(), &model.info().preprocessing) {
            (Op::Conv(attributes), Some(pixels)) if node.inputs() == [0] => {
                (attributes.out_channels, pixels.std.as_slice())
            }
            (Op::Conv(attributes), _) => (attributes.out_channels, [].as_slice()),
            (Op::Linear { out_features, .. }, _) => (*out_features, [].as_slice()),
            _ => continue,
        };
        let name = node.parameter("weight");
        let Some(values) = parameters.get_mut(&name).and_then(|w| w.as_slice_mut()) else {
            return Err(QuantError::layer(node.name(), "it has no weights"));
        };
        let taps = values.len() / kernels.max(1);
        for kernel in values.chunks_exact_mut(taps.max(1)) {
            // Weights of a channel of the image are one after the other.
            let window = (taps / std.len().max(1)).max(1);
            let unit = |tap: usize| std.get(tap / window).map_or(1.0, |&std| f64::from(std));
            let scaled = |(tap, &w): (usize, &f32)| f64::from(w) / unit(tap);
            let scaled: Vec<f64> = kernel.iter().enumerate().map(scaled).collect();
            let OrdinaryKernel { codes, step } = OrdinaryKernel::quantize(&scaled);
            for (tap, (w, code)) in kernel.iter_mut().zip(codes).enumerate() {
                *w = (f64::from(code) * step * unit(tap)) as f32;
            }
        }
    }
    let model = model
        .clone()
        .with_parts(model.graph().clone(), parameters)?;
    Ok(model)
}

#[cfg(test)]
mod tests;
