//! The range clamp: weights outside the activations' range become a bias, and nothing is lost.

use addernet_graph::{Model, Op};
use ndarray::ArrayD;

use crate::error::QuantError;

/// Clamps one kernel's weights to `[lo, hi]` in place and returns the bias that makes up for it.
///
/// If every x lies in [lo, hi] then |x − w| = |x − w'| + |w − w'| with w' = clamp(w, lo, hi), and the
/// last term does not depend on x: the bias is −Σ|w − w'| (Nie et al. 2022, section 3.2).
pub fn clamp_kernel(weights: &mut [f32], lo: f32, hi: f32) -> f32 {
    let mut excess = 0.0f64;
    for w in weights {
        let clamped = w.clamp(lo, hi);
        excess += (f64::from(*w) - f64::from(clamped)).abs();
        *w = clamped;
    }
    -excess as f32
}

/// The same float model with every adder layer's weights clamped to the range of its input, as
/// `ranges(node name)` tells it, and the remainder in the layer's bias.
///
/// For inputs inside the ranges the outputs are those of the original model (up to rounding).
///
/// ```
/// use addernet_graph::{zoo::Architecture, FeatureShape, Model};
/// # use ndarray::ArrayD;
/// let graph = Architecture::LeNet5Bn.graph(FeatureShape::new(1, 32, 32), 10)?;
/// # let parameters = graph.parameters().map(|(n, s)| (n, ArrayD::from_elem(s, 7.0))).collect();
/// let model = Model::new(graph, parameters)?;
/// // Behind a ReLU the range starts at 0; here it ends at 3.
/// let clamped = addernet_quant::clamp_weights(&model, |_| Ok((0.0, 3.0)))?;
/// let conv2 = clamped.graph().node("conv2").unwrap();
/// assert!(clamped.values(conv2, "adder")?.iter().all(|w| (0.0..=3.0).contains(w)));
/// # Ok::<(), addernet_quant::QuantError>(())
/// ```
///
/// # Errors
/// Whatever `ranges` returns, or a range whose ends are not finite and ordered.
pub fn clamp_weights(
    model: &Model,
    ranges: impl Fn(&str) -> Result<(f32, f32), QuantError>,
) -> Result<Model, QuantError> {
    let mut graph = model.graph().clone();
    let mut parameters = model.parameters().clone();
    for (_, node, attributes) in model.graph().adder_nodes() {
        let (lo, hi) = ranges(node.name())?;
        if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
            return Err(QuantError::layer(
                node.name(),
                format!("the range [{lo}, {hi}] is empty"),
            ));
        }
        let mut weights = model.values(node, "adder")?.to_vec();
        let mut bias = match attributes.bias {
            true => model.values(node, "bias")?.to_vec(),
            false => vec![0.0; attributes.out_channels],
        };
        let taps = weights.len() / attributes.out_channels;
        for (kernel, bias) in weights.chunks_exact_mut(taps).zip(&mut bias) {
            *bias += clamp_kernel(kernel, lo, hi);
        }
        graph = graph.with_op(node.name(), Op::AdderConv(attributes.with_bias()))?;
        for (suffix, shape, values) in [
            ("adder", attributes.weight_shape().to_vec(), weights),
            ("bias", vec![attributes.out_channels], bias),
        ] {
            let array = ArrayD::from_shape_vec(shape, values)
                .map_err(|e| QuantError::layer(node.name(), e.to_string()))?;
            parameters.insert(node.parameter(suffix), array);
        }
    }
    Ok(model.clone().with_parts(graph, parameters)?)
}

#[cfg(test)]
mod tests;
