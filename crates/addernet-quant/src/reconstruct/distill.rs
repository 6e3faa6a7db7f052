//! Second stage: the quantized network learns to give the float network's logits and features.

use std::collections::BTreeMap;

use addernet_graph::{Hook, HookError, Node, NodeId, Op};
use ndarray::{Array4, Axis, s};
use rayon::prelude::*;

use super::backward;
use super::optimizer::{Adam, schedule};
use super::student::{Gradients, MARGIN, State, Student};
use super::{ReconstructionProgress, Tuning};
use crate::error::QuantError;

/// Images that one thread takes through the network at a time.
const PIECE: usize = 8;

/// The float network's values that the student is to reproduce.
struct Teacher {
    features: BTreeMap<NodeId, Array4<f32>>,
    wanted: Vec<NodeId>,
}

impl Hook for Teacher {
    fn output(&mut self, id: NodeId, _: &Node, output: &Array4<f32>) -> Result<(), HookError> {
        if self.wanted.contains(&id) {
            self.features.insert(id, output.clone());
        }
        Ok(())
    }
}

/// The two parameter vectors of a node: optimizers, and the size of each value, which rates are relative
/// to.
struct NodeOptimizer {
    adam: [Adam; 2],
    sizes: [Vec<f32>; 2],
}

pub(super) fn distill<E>(
    teacher: &Student<'_>,
    student: &mut Student<'_>,
    tuning: &Tuning,
    mut batches: impl FnMut(usize) -> Result<Array4<f32>, E>,
    progress: &dyn ReconstructionProgress,
) -> Result<(), QuantError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let nodes = student.model().graph().nodes();
    let wanted: Vec<NodeId> = match tuning.features > 0.0 {
        // The values that others add to or read: behind each residual sum or BN + ReLU.
        true => (0..nodes.len())
            .filter(|&id| matches!(nodes[id].op(), Op::Relu))
            .collect(),
        false => Vec::new(),
    };
    let mut optimizers = optimizers(student)?;
    for step in 0..tuning.steps {
        let images = batches(step).map_err(|e| QuantError::Images {
            source: Box::new(e),
        })?;
        let count = images.dim().0;
        let pieces: Vec<(Gradients, f64)> = (0..count.div_ceil(PIECE))
            .into_par_iter()
            .map(|piece| {
                let range = piece * PIECE..((piece + 1) * PIECE).min(count);
                let images = images.slice(s![range, .., .., ..]).to_owned();
                gradients(teacher, student, tuning, &wanted, images, count)
            })
            .collect::<Result<_, _>>()?;
        let mut total = Gradients::new();
        let mut loss = 0.0;
        for (gradients, part) in pieces {
            loss += part;
            for (id, [a, b]) in gradients {
                match total.get_mut(&id) {
                    None => {
                        total.insert(id, [a, b]);
                    }
                    Some([sum_a, sum_b]) => {
                        sum_a.iter_mut().zip(a).for_each(|(s, v)| *s += v);
                        sum_b.iter_mut().zip(b).for_each(|(s, v)| *s += v);
                    }
                }
            }
        }
        if !loss.is_finite() {
            return Err(QuantError::config(
                "tuning",
                "the loss is not finite: use a lower learning rate",
            ));
        }
        update(student, &mut optimizers, &total, tuning, step)?;
        progress.tuned(count);
    }
    Ok(())
}

fn optimizers(student: &Student<'_>) -> Result<BTreeMap<NodeId, NodeOptimizer>, QuantError> {
    let mut optimizers = BTreeMap::new();
    for (&id, state) in &student.states {
        let sizes = match state {
            // Code steps, and the logarithm of the scale.
            State::Adder(state) => [vec![1.0; state.latent.len()], vec![1.0]],
            State::Affine(state) => {
                let node = &student.model().graph().nodes()[id];
                // BN's weight is the deviation of its output, which offsets are to be seen against.
                let deviations = student.model().values(node, "weight")?;
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
        optimizers.insert(id, NodeOptimizer { adam, sizes });
    }
    Ok(optimizers)
}

fn update(
    student: &mut Student<'_>,
    optimizers: &mut BTreeMap<NodeId, NodeOptimizer>,
    gradients: &Gradients,
    tuning: &Tuning,
    step: usize,
) -> Result<(), QuantError> {
    let share = schedule(step, tuning.steps);
    let affine = share * tuning.affine_rate;
    for (id, optimizer) in optimizers {
        let (Some(state), Some([grad_a, grad_b])) = (student.states.get_mut(id), gradients.get(id))
        else {
            continue;
        };
        let NodeOptimizer {
            adam: [a, b],
            sizes: [size_a, size_b],
        } = optimizer;
        match state {
            State::Adder(state) => {
                if tuning.scale_rate > 0.0 {
                    let mut log = [state.group.scale.ln()];
                    b.step(
                        step + 1,
                        &mut log,
                        grad_b,
                        share * tuning.scale_rate,
                        size_b,
                    );
                    state.group.scale = log[0].exp();
                }
                if tuning.weight_rate > 0.0 {
                    let rate = share * tuning.weight_rate;
                    a.step(step + 1, &mut state.latent, grad_a, rate, size_a);
                    let (low, high) = (
                        state.weight_format.min() as f32 - MARGIN,
                        state.weight_format.max() as f32 + MARGIN,
                    );
                    let latent = state.latent.iter_mut();
                    latent.for_each(|v| *v = v.clamp(low, high));
                    student.repack(*id)?;
                }
            }
            State::Affine(state) => {
                let before = state.factor.clone();
                a.step(step + 1, &mut state.factor, grad_a, affine, size_a);
                for (c, before) in before.into_iter().enumerate() {
                    state.offset[c] -= (state.factor[c] - before) * state.centre[c];
                }
                b.step(step + 1, &mut state.offset, grad_b, affine, size_b);
            }
            State::Linear(state) => {
                a.step(step + 1, &mut state.weight, grad_a, affine, size_a);
                if state.has_bias {
                    b.step(step + 1, &mut state.bias, grad_b, affine, size_b);
                }
            }
        }
    }
    Ok(())
}

/// Gradients and loss of some of a batch's `count` images.
fn gradients(
    teacher: &Student<'_>,
    student: &Student<'_>,
    tuning: &Tuning,
    wanted: &[NodeId],
    images: Array4<f32>,
    count: usize,
) -> Result<(Gradients, f64), QuantError> {
    let mut features = Teacher {
        features: BTreeMap::new(),
        wanted: wanted.to_vec(),
    };
    let targets = teacher.run_with(images.clone(), &mut features)?;
    let tape = student.forward(images)?;
    let mut grads: Vec<Option<Array4<f32>>> = vec![None; tape.values.len()];
    let mut loss = 0.0;
    for (id, target) in &features.features {
        let value = &tape.values[*id];
        let power = f64::from(backward::power(target)) / target.len() as f64;
        let weight = f64::from(tuning.features)
            / power.max(1e-9)
            / (target.len() / target.dim().0) as f64
            / count as f64
            / features.features.len() as f64;
        let mut grad = value - target;
        loss += weight * f64::from(backward::power(&grad));
        let scale = (2.0 * weight) as f32;
        if let Some(values) = grad.as_slice_mut() {
            values.iter_mut().for_each(|v| *v *= scale);
        }
        grads[*id] = Some(grad);
    }
    let last = tape.values.len() - 1;
    let logits = &tape.values[last];
    let (grad, part) = divergence(logits, &targets, tuning.temperature, count);
    loss += part;
    grads[last] = Some(grad);
    Ok((student.backward(&tape, grads)?, loss))
}

/// Mean over `count` images of T²·KL(softmax(target/T) ‖ softmax(logits/T)), and its gradient.
fn divergence(
    logits: &Array4<f32>,
    targets: &Array4<f32>,
    temperature: f32,
    count: usize,
) -> (Array4<f32>, f64) {
    let mut grad = logits.clone();
    let mut loss = 0.0;
    let t = f64::from(temperature);
    for (mut row, target) in grad.axis_iter_mut(Axis(0)).zip(targets.axis_iter(Axis(0))) {
        let p = softmax(target.iter().map(|&v| f64::from(v) / t).collect());
        let q = softmax(row.iter().map(|&v| f64::from(v) / t).collect());
        for (v, (p, q)) in row.iter_mut().zip(p.into_iter().zip(q)) {
            loss += t * t * p * (p.max(1e-30).ln() - q.max(1e-30).ln()) / count as f64;
            *v = (t * (q - p) / count as f64) as f32;
        }
    }
    (grad, loss)
}

fn softmax(mut values: Vec<f64>) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|v| *v = (*v - largest).exp());
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
    values
}
