//! Ordinary layers: convolutions and classifiers, which multiply.

use addernet_graph::{Model, Op};

use crate::error::QuantError;

/// The largest code's magnitude: 8 bits, symmetric.
const LARGEST: f64 = 127.0;

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
            let largest = (kernel.iter().enumerate())
                .map(scaled)
                .fold(0.0f64, |most, w| most.max(w.abs()));
            let step = largest / LARGEST;
            if step == 0.0 {
                continue;
            }
            for (tap, w) in kernel.iter_mut().enumerate() {
                let code = (scaled((tap, w)) / step).round_ties_even();
                *w = (code.clamp(-LARGEST, LARGEST) * step * unit(tap)) as f32;
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
