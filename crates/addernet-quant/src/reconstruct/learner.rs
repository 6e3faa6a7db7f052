//! Second stage, and quantization-aware training: the quantized network learns from the float network's logits and
//! features, from labels, or from both.

use std::collections::BTreeMap;

use addernet_graph::{Executor, Hook, HookError, Node, NodeId, Op};
use addernet_kernels::AdderKernelU8;
use ndarray::{Array4, s};
use rayon::prelude::*;

use super::loss::{Targets, Weights, correct, objective};
use super::optimizer::NodeOptimizer;
use super::search::Search;
use super::student::{AdderState, Gradients, State, Student};
use super::{Reconstruction, ReconstructionProgress, Tuning, backward, finish};
use crate::error::QuantError;
use crate::method::{FloatLayer, Grid};
use crate::model::{Provenance, QuantizedModel};
use crate::observer::Observations;

/// Images that one thread takes through the network at a time.
const PIECE: usize = 8;

/// A quantized network that learns, with the float network as its teacher.
///
/// Its forward pass runs on the codes that the integer engine runs on; gradients pass through rounding as if it were not
/// there (straight-through), and not through saturation. Weights are learned as latent values behind their codes, with
/// each layer's scale, BN's factors and offsets, and the classifier.
///
/// The teacher is not the float network itself but its form with 8-bit codes: several times faster, and much closer to it
/// than few bits are. The result does not depend on the number of threads.
#[derive(Clone)]
pub struct Learner<'m> {
    teacher: Student<'m>,
    student: Student<'m>,
    tuning: Tuning,
    /// Nodes whose values are compared with the teacher's.
    wanted: Vec<NodeId>,
    optimizers: BTreeMap<NodeId, NodeOptimizer>,
}

/// What a step of a [`Learner`] came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// The batch's mean loss.
    pub loss: f64,
    /// How many of the batch's images have their label's logit as the largest.
    pub correct: usize,
}

impl<'m> Learner<'m> {
    /// The network of `executor` with codes whose scales are searched on `images` (N,H,W,C), some hundreds.
    ///
    /// # Errors
    /// If the settings do not fit the graph, a layer was not calibrated, or images do not fit.
    pub fn search(
        executor: &'m Executor<'m>,
        observations: &Observations,
        settings: &Reconstruction,
        images: &Array4<f32>,
        kernel_u8: &'static dyn AdderKernelU8,
        progress: &dyn ReconstructionProgress,
    ) -> Result<Self, QuantError> {
        settings.check(executor.model().graph())?;
        let mut student = Student::new(executor, kernel_u8)?;
        let mut teacher = student.clone();
        let layer_done = |_| progress.layer();
        Search::new(settings, observations, &mut student, &layer_done)
            .run(executor, images.clone())?;
        Search::new(&of_teacher(), observations, &mut teacher, &layer_done)
            .run(executor, images.clone())?;
        Self::new(teacher, student, settings)
    }

    fn new(
        teacher: Student<'m>,
        student: Student<'m>,
        settings: &Reconstruction,
    ) -> Result<Self, QuantError> {
        let nodes = student.model().graph().nodes();
        let wanted = match settings.tuning.features > 0.0 {
            // The values that others add to or read: behind each residual sum or BN + ReLU.
            true => (0..nodes.len())
                .filter(|&id| matches!(nodes[id].op(), Op::Relu))
                .collect(),
            false => Vec::new(),
        };
        let optimizers = student
            .states
            .iter()
            .map(|(&id, state)| {
                let node = &nodes[id];
                Ok((id, NodeOptimizer::new(student.model(), node, state)?))
            })
            .collect::<Result<_, QuantError>>()?;
        Ok(Self {
            teacher,
            student,
            tuning: settings.tuning,
            wanted,
            optimizers,
        })
    }

    /// The learner that had this [`state`](Self::state), made with the same settings and observations.
    ///
    /// # Errors
    /// If a value is missing, one too many, of another length or not finite.
    pub fn restore(
        executor: &'m Executor<'m>,
        observations: &Observations,
        settings: &Reconstruction,
        kernel_u8: &'static dyn AdderKernelU8,
        mut state: BTreeMap<String, Vec<f32>>,
    ) -> Result<Self, QuantError> {
        settings.check(executor.model().graph())?;
        let mut student = Student::new(executor, kernel_u8)?;
        let mut teacher = student.clone();
        for (student, settings) in [(&mut student, settings), (&mut teacher, &of_teacher())] {
            place_codes(student, observations, settings)?;
        }
        let mut learner = Self::new(teacher, student, settings)?;
        let mut wrong = None;
        learner.visit(&mut |name, values| match state.remove(&name) {
            Some(stored)
                if stored.len() == values.len() && stored.iter().all(|v| v.is_finite()) =>
            {
                values.copy_from_slice(&stored);
            }
            Some(stored) => {
                let (expected, found) = (values.len(), stored.len());
                wrong = Some(format!(
                    "`{name}` should be {expected} finite values; it has {found}"
                ));
            }
            None => wrong = Some(format!("`{name}` is missing")),
        });
        let wrong = wrong
            .or_else(|| (state.keys().next()).map(|name| format!("`{name}` is unknown")))
            .or_else(|| learner.wrong_scale());
        if let Some(reason) = wrong {
            return Err(QuantError::config("state", reason));
        }
        learner.student.repack_all()?;
        learner.teacher.repack_all()?;
        Ok(learner)
    }

    /// Steps divide what they scale.
    fn wrong_scale(&self) -> Option<String> {
        let nodes = self.student.model().graph().nodes();
        let states = self.student.states.iter().chain(&self.teacher.states);
        states
            .filter_map(|(&id, state)| match state {
                State::Adder(state) => Some((id, state.group.scale, state.output_step)),
                _ => None,
            })
            .find(|(_, scale, step)| {
                !(scale.is_normal() && step.is_normal() && *scale > 0.0 && *step > 0.0)
            })
            .map(|(id, ..)| format!("the scale of `{}` is not above 0", nodes[id].name()))
    }

    /// Everything that changes while it learns, and the teacher, by name.
    pub fn state(&self) -> BTreeMap<String, Vec<f32>> {
        let mut state = BTreeMap::new();
        self.clone().visit(&mut |name, values| {
            state.insert(name, values.to_vec());
        });
        state
    }

    /// Calls `with` for all values of the state.
    fn visit(&mut self, with: &mut dyn FnMut(String, &mut [f32])) {
        let nodes = self.student.model().graph().nodes();
        for (who, network) in [
            ("student", &mut self.student),
            ("teacher", &mut self.teacher),
        ] {
            for (&id, state) in &mut network.states {
                state.visit(&mut |what, values| {
                    with(format!("{who}.{}.{what}", nodes[id].name()), values);
                });
            }
        }
        for (&id, optimizer) in &mut self.optimizers {
            optimizer.visit(&mut |what, values| {
                with(format!("optimizer.{}.{what}", nodes[id].name()), values);
            });
        }
    }

    /// One step on a batch of images (N,H,W,C) with their classes, after `done` others, at `share` (0 to 1) of the
    /// learning rates. If the loss is not finite, nothing was learned.
    ///
    /// # Errors
    /// If the images do not fit, or there is not a label for each.
    pub fn step(
        &mut self,
        images: &Array4<f32>,
        labels: &[u32],
        done: usize,
        share: f32,
    ) -> Result<Learned, QuantError> {
        let count = images.dim().0;
        if labels.len() != count {
            let reason = format!("{} labels for {count} images", labels.len());
            return Err(QuantError::config("labels", reason));
        }
        self.learn(images, Some(labels), done, share)
    }

    /// A step, with or without labels.
    pub(super) fn learn(
        &mut self,
        images: &Array4<f32>,
        labels: Option<&[u32]>,
        done: usize,
        share: f32,
    ) -> Result<Learned, QuantError> {
        let count = images.dim().0;
        let pieces: Vec<(Gradients, Learned)> = (0..count.div_ceil(PIECE))
            .into_par_iter()
            .map(|piece| {
                let range = piece * PIECE..((piece + 1) * PIECE).min(count);
                let labels = labels.map(|labels| &labels[range.clone()]);
                let images = images.slice(s![range, .., .., ..]).to_owned();
                self.gradients(images, labels, count)
            })
            .collect::<Result<_, _>>()?;
        let mut total = Gradients::new();
        let mut sum = Learned {
            loss: 0.0,
            correct: 0,
        };
        for (gradients, part) in pieces {
            sum.loss += part.loss;
            sum.correct += part.correct;
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
        if !sum.loss.is_finite() {
            return Ok(sum);
        }
        for (id, optimizer) in &mut self.optimizers {
            if let (Some(state), Some(grads)) = (self.student.states.get_mut(id), total.get(id))
                && optimizer.update(state, grads, &self.tuning, done, share)
            {
                self.student.repack(*id)?;
            }
        }
        Ok(sum)
    }

    /// Gradients and loss of some of a batch's `count` images.
    fn gradients(
        &self,
        images: Array4<f32>,
        labels: Option<&[u32]>,
        count: usize,
    ) -> Result<(Gradients, Learned), QuantError> {
        let Tuning {
            labels: label_share,
            features: feature_weight,
            temperature,
            ..
        } = self.tuning;
        let mut teacher = Teacher {
            features: BTreeMap::new(),
            wanted: &self.wanted,
        };
        let logits = match label_share < 1.0 || feature_weight > 0.0 {
            true => Some(self.teacher.run_with(images.clone(), &mut teacher)?),
            false => None,
        };
        let tape = self.student.forward(images)?;
        let mut grads: Vec<Option<Array4<f32>>> = vec![None; tape.values.len()];
        let mut loss = 0.0;
        for (id, target) in &teacher.features {
            let value = &tape.values[*id];
            let power = f64::from(backward::power(target)) / target.len() as f64;
            let weight = f64::from(feature_weight)
                / power.max(1e-9)
                / (target.len() / target.dim().0) as f64
                / count as f64
                / teacher.features.len() as f64;
            let mut grad = value - target;
            loss += weight * f64::from(backward::power(&grad));
            let scale = (2.0 * weight) as f32;
            if let Some(values) = grad.as_slice_mut() {
                values.iter_mut().for_each(|v| *v *= scale);
            }
            grads[*id] = Some(grad);
        }
        let last = tape.values.len() - 1;
        let targets = Targets {
            teacher: logits.as_ref(),
            labels,
        };
        let weights = Weights {
            labels: label_share,
            temperature,
            count,
        };
        let (grad, part) = objective(&tape.values[last], targets, weights);
        grads[last] = Some(grad);
        let learned = Learned {
            loss: loss + part,
            correct: labels.map_or(0, |labels| correct(&tape.values[last], labels)),
        };
        Ok((self.student.backward(&tape, grads)?, learned))
    }

    /// The quantized model as it is now; BN's running statistics become those of its layers on `images` (N,H,W,C).
    ///
    /// # Errors
    /// If a layer was not calibrated or images do not fit.
    pub fn finish(
        &self,
        observations: &Observations,
        images: &Array4<f32>,
        provenance: Provenance,
    ) -> Result<QuantizedModel, QuantError> {
        let model = self.student.model();
        finish(
            model,
            observations,
            &self.student,
            images.clone(),
            provenance,
        )
    }
}

/// What the teacher is quantized with.
fn of_teacher() -> Reconstruction {
    Reconstruction::new(8, 8)
}

/// Gives every adder layer codes at the calibrated scale, for a state to be put in their place.
fn place_codes(
    student: &mut Student<'_>,
    observations: &Observations,
    settings: &Reconstruction,
) -> Result<(), QuantError> {
    let model = student.model();
    for (id, node, attributes) in model.graph().adder_nodes() {
        let layer = FloatLayer::new(model, node, attributes, observations)?;
        let grid = Grid::new(
            layer.range.bound,
            settings.bits_of(node.name()),
            !layer.non_negative_input,
        );
        let state = State::Adder(AdderState::new(&layer, grid));
        student.states.insert(id, state);
    }
    Ok(())
}

/// The teacher's values that the student is to reproduce.
struct Teacher<'w> {
    features: BTreeMap<NodeId, Array4<f32>>,
    wanted: &'w [NodeId],
}

impl Hook for Teacher<'_> {
    fn output(&mut self, id: NodeId, _: &Node, output: &Array4<f32>) -> Result<(), HookError> {
        if self.wanted.contains(&id) {
            self.features.insert(id, output.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
