//! The same network but for rounding: how much of an accuracy is chance.

use addernet_graph::{GraphError, Model, Op};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `model` with every weight and bias of its BN layers and every bias of its adder layers moved to a neighbouring f32, up or
/// down as `seed` has it; zeros stay.
///
/// Activations of a quantized network that lie between two codes fall on either side by the smallest of causes, and each
/// layer multiplies the codes that differ. So a network whose parameters differ in their last bit, which is what
/// arithmetic in f32 leaves open anyway, gives other predictions for some images; and how far the accuracies of such copies
/// differ is how far an accuracy can be told at all.
///
/// # Errors
/// If a layer lacks a parameter.
pub fn nudge(model: &Model, seed: u64) -> Result<Model, GraphError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut parameters = model.parameters().clone();
    for node in model.graph().nodes() {
        let suffixes: &[_] = match node.op() {
            Op::BatchNorm { .. } => &["weight", "bias"],
            Op::AdderConv(attributes) if attributes.bias => &["bias"],
            _ => &[],
        };
        for suffix in suffixes {
            model.parameter(node, suffix)?;
            let values = parameters.get_mut(&node.parameter(suffix));
            for value in values.into_iter().flatten() {
                let up: bool = rng.random();
                *value = match (*value == 0.0, up) {
                    (true, _) => *value,
                    (false, true) => value.next_up(),
                    (false, false) => value.next_down(),
                };
            }
        }
    }
    model.clone().with_parts(model.graph().clone(), parameters)
}

#[cfg(test)]
mod tests;
