//! Adam (Kingma & Ba 2015, algorithm 1) with a cosine schedule.

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

/// Share of the learning rate at `step` of `steps`: from 1 to 0 along a cosine, after a short warm-up.
pub(super) fn schedule(step: usize, steps: usize) -> f32 {
    let warm = (steps / 20).max(1);
    let at = step as f32 / steps as f32;
    let cosine = 0.5 * (1.0 + (std::f32::consts::PI * at).cos());
    cosine * ((step + 1) as f32 / warm as f32).min(1.0)
}
