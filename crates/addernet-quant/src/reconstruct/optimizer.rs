//! Adam (Kingma & Ba 2015, algorithm 1) with a cosine schedule.

use addernet_graph::{Model, Node};

use super::Tuning;
use super::student::{MARGIN, State};
use crate::error::QuantError;

/// Moments of one parameter vector.
#[derive(Clone, Debug)]
pub(super) struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-12;

impl Adam {
    pub(super) fn new(len: usize) -> Self {
        Self {
            first: vec![0.0; len],
            second: vec![0.0; len],
        }
    }

    /// Step number `step` (from 1): moves each value by at most about its size times the rate.
    pub(super) fn step(
        &mut self,
        step: usize,
        values: &mut [f32],
        grads: &[f32],
        rate: f32,
        sizes: &[f32],
    ) {
        let bias1 = 1.0 - BETA1.powi(step as i32);
        let bias2 = 1.0 - BETA2.powi(step as i32);
        for (i, (value, &grad)) in values.iter_mut().zip(grads).enumerate() {
            let first = &mut self.first[i];
            let second = &mut self.second[i];
            *first = BETA1 * *first + (1.0 - BETA1) * grad;
            *second = BETA2 * *second + (1.0 - BETA2) * grad * grad;
            let direction = (*first / bias1) / ((*second / bias2).sqrt() + EPSILON);
            *value -= rate * sizes[i] * direction;
        }
    }
}

/// The optimizer of a node's two parameter vectors.
#[derive(Clone)]
pub(super) struct NodeOptimizer {
    adam: [Adam; 2],
    /// The size of each value, which rates are relative to.
    sizes: [Vec<f32>; 2],
}

impl NodeOptimizer {
    pub(super) fn new(model: &Model, node: &Node, state: &State) -> Result<Self, QuantError> {
        let sizes = match state {
            // Code steps, and the logarithm of the scale.
            State::Adder(state) => [vec![1.0; state.latent.len()], vec![1.0]],
            State::Affine(state) => {
                // BN's weight is the deviation of its output, which offsets are to be seen against.
                let deviations = model.values(node, "weight")?;
                [
                    state.factor.iter().map(|f| f.abs().max(1e-6)).collect(),
                    deviations.iter().map(|w| w.abs().max(1e-3)).collect(),
                ]
            }
            State::Linear(state) => {
                let count = state.weight.len().max(1) as f32;
                let size = (state.weight.iter().map(|w| w * w).sum::<f32>() / count).sqrt();
                [vec![size; state.weight.len()], vec![size; state.bias.len()]]
            }
        };
        let adam = [Adam::new(sizes[0].len()), Adam::new(sizes[1].len())];
        Ok(Self { adam, sizes })
    }

    /// One step after `done` others, at `share` of the rates; says whether codes may have changed.
    pub(super) fn update(
        &mut self,
        state: &mut State,
        [grad_a, grad_b]: &[Vec<f32>; 2],
        tuning: &Tuning,
        done: usize,
        share: f32,
    ) -> bool {
        let Self {
            adam: [a, b],
            sizes: [size_a, size_b],
        } = self;
        let step = done + 1;
        let affine = share * tuning.affine_rate;
        match state {
            State::Adder(state) => {
                if tuning.scale_rate > 0.0 {
                    let mut log = [state.group.scale.ln()];
                    b.step(step, &mut log, grad_b, share * tuning.scale_rate, size_b);
                    state.group.scale = log[0].exp();
                }
                if tuning.weight_rate == 0.0 {
                    return false;
                }
                let rate = share * tuning.weight_rate;
                a.step(step, &mut state.latent, grad_a, rate, size_a);
                let (low, high) = (
                    state.weight_format.min() as f32 - MARGIN,
                    state.weight_format.max() as f32 + MARGIN,
                );
                let latent = state.latent.iter_mut();
                latent.for_each(|v| *v = v.clamp(low, high));
                return true;
            }
            State::Affine(state) => {
                let before = state.factor.clone();
                a.step(step, &mut state.factor, grad_a, affine, size_a);
                for (c, before) in before.into_iter().enumerate() {
                    state.offset[c] -= (state.factor[c] - before) * state.centre[c];
                }
                b.step(step, &mut state.offset, grad_b, affine, size_b);
            }
            State::Linear(state) => {
                a.step(step, &mut state.weight, grad_a, affine, size_a);
                if state.has_bias {
                    b.step(step, &mut state.bias, grad_b, affine, size_b);
                }
            }
        }
        false
    }

    /// Calls `with` for all values that a state consists of.
    pub(super) fn visit(&mut self, with: &mut dyn FnMut(&str, &mut [f32])) {
        let [a, b] = &mut self.adam;
        let [size_a, size_b] = &mut self.sizes;
        with("first.a", &mut a.first);
        with("second.a", &mut a.second);
        with("size.a", size_a);
        with("first.b", &mut b.first);
        with("second.b", &mut b.second);
        with("size.b", size_b);
    }
}

/// Share of the learning rate at `step` of `steps`: from 1 to 0 along a cosine, after a short warm-up.
pub(super) fn schedule(step: usize, steps: usize) -> f32 {
    let warm = (steps / 20).max(1);
    let at = step as f32 / steps as f32;
    let cosine = 0.5 * (1.0 + (std::f32::consts::PI * at).cos());
    cosine * ((step + 1) as f32 / warm as f32).min(1.0)
}
