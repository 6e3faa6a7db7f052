//! First stage: layer by layer, with inputs that are quantized already, the scale whose codes
//! reproduce the float layer's output best, and the factor and offset per channel that correct what is
//! left.

use std::collections::BTreeMap;

use addernet_graph::{Executor, Hook, HookError, Node, NodeId, Op};
use ndarray::Array4;

use super::Reconstruction;
use super::fit::{self, Moments};
use super::student::{AdderState, State, Student};
use crate::error::QuantError;
use crate::method::{FloatLayer, Grid};
use crate::observer::Observations;

/// Scales that are tried first, from a little above the activations' largest value down.
const CANDIDATES: i32 = 14;
/// Ratio of neighbouring ones.
const RATIO: f32 = 0.85;

/// Watches the float model run on the calibration images and quantizes layer by layer.
pub(super) struct Search<'s, 'm> {
    settings: &'s Reconstruction,
    observations: &'s Observations,
    student: &'s mut Student<'m>,
    /// The student's value of each node that is still needed.
    values: Vec<Option<Array4<f32>>>,
    last_uses: Vec<NodeId>,
    /// The BN that alone reads an adder layer.
    bn_of: BTreeMap<NodeId, NodeId>,
    /// The adder layer whose BN comes next.
    pending: Option<NodeId>,
    progress: &'s dyn Fn(usize),
}

/// A layer quantized at one scale.
struct Candidate {
    scale: f32,
    error: f64,
    state: AdderState,
    moments: Moments,
}

impl<'s, 'm> Search<'s, 'm> {
    /// `progress` is told of every layer that is done.
    pub(super) fn new(
        settings: &'s Reconstruction,
        observations: &'s Observations,
        student: &'s mut Student<'m>,
        progress: &'s dyn Fn(usize),
    ) -> Self {
        let graph = student.model().graph();
        let mut bn_of = BTreeMap::new();
        for (id, _, _) in graph.adder_nodes() {
            let nodes = graph.nodes().iter().enumerate();
            let mut readers = nodes.filter(|(_, node)| node.inputs().contains(&id));
            if let (Some((bn, node)), None) = (readers.next(), readers.next())
                && matches!(node.op(), Op::BatchNorm { .. })
            {
                bn_of.insert(id, bn);
            }
        }
        Self {
            settings,
            observations,
            values: vec![None; graph.nodes().len()],
            last_uses: graph.last_uses(),
            student,
            pending: None,
            bn_of,
            progress,
        }
    }

    /// Runs `float` on the calibration images (N,H,W,C).
    pub(super) fn run(
        mut self,
        float: &Executor<'_>,
        images: Array4<f32>,
    ) -> Result<(), QuantError> {
        float.run_with(images, &mut self)?;
        Ok(())
    }

    fn value(&self, id: NodeId) -> Result<&Array4<f32>, HookError> {
        self.values[id]
            .as_ref()
            .ok_or_else(|| "the quantized value of its input is gone".into())
    }

    /// Quantizes an adder layer. `target` is the float network's value behind its BN, or behind the
    /// layer itself if it has none.
    fn quantize(&mut self, id: NodeId, target: &Array4<f32>) -> Result<(), HookError> {
        let model = self.student.model();
        let node = &model.graph().nodes()[id];
        let Some(attributes) = node.adder() else {
            return Ok(());
        };
        let layer = FloatLayer::new(model, node, attributes, self.observations)?;
        let x = self.value(node.inputs()[0])?.clone();
        let mut tried: Vec<Candidate> = Vec::new();
        if !self.settings.scale_search {
            tried.push(self.candidate(id, &layer, layer.range.bound, &x, target)?);
        } else {
            let largest = layer.range.max.max(-layer.range.min) * 1.05;
            for i in 0..CANDIDATES {
                let scale = largest * RATIO.powi(i);
                tried.push(self.candidate(id, &layer, scale, &x, target)?);
            }
            // Half-way to the best one's neighbours.
            let best = best(&tried).map_or(largest, |candidate| candidate.scale);
            for ratio in [RATIO.sqrt(), 1.0 / RATIO.sqrt()] {
                tried.push(self.candidate(id, &layer, best * ratio, &x, target)?);
            }
        }
        let Some(Candidate { state, moments, .. }) = best_of(tried) else {
            return Err("no scale was tried".into());
        };
        self.student.states.insert(id, State::Adder(state));
        if let (Some(bn), true) = (self.bn_of.get(&id), self.settings.correction) {
            let corrected = State::Affine(moments.correction());
            self.student.states.insert(*bn, corrected);
        }
        (self.progress)(1);
        Ok(())
    }

    fn candidate(
        &mut self,
        id: NodeId,
        layer: &FloatLayer<'_>,
        scale: f32,
        x: &Array4<f32>,
        target: &Array4<f32>,
    ) -> Result<Candidate, HookError> {
        let bits = self.settings.bits_of(layer.node);
        let grid = Grid::new(scale, bits, !layer.non_negative_input);
        let state = AdderState::new(layer, grid);
        self.student.states.insert(id, State::Adder(state));
        self.student.repack(id)?;
        let node = &self.student.model().graph().nodes()[id];
        let (y, _) = self.student.node(id, node, &[x])?;
        let Some(State::Adder(state)) = self.student.states.remove(&id) else {
            return Err("its state is gone".into());
        };
        let moments = Moments::new(&y, target);
        let bn = self
            .bn_of
            .get(&id)
            .and_then(|bn| self.student.states.get(bn));
        let error = match bn {
            Some(_) if self.settings.correction => moments.corrected_error(),
            Some(State::Affine(float)) => moments.error(&float.factor, &float.offset),
            _ => fit::squared_error(&y, target),
        };
        Ok(Candidate {
            scale,
            error,
            state,
            moments,
        })
    }

    /// Frees the values that `id` was the last to read.
    fn forget(&mut self, inputs: &[NodeId], id: NodeId) {
        for &input in inputs {
            if self.last_uses[input] <= id {
                self.values[input] = None;
            }
        }
    }

    /// Computes the student's value of a node.
    fn compute(&mut self, id: NodeId) -> Result<(), HookError> {
        let node = &self.student.model().graph().nodes()[id];
        let inputs = node
            .inputs()
            .iter()
            .map(|&input| self.value(input))
            .collect::<Result<Vec<_>, _>>()?;
        let (y, _) = self.student.node(id, node, &inputs)?;
        self.values[id] = Some(y);
        self.forget(node.inputs(), id);
        Ok(())
    }
}

fn best(tried: &[Candidate]) -> Option<&Candidate> {
    tried.iter().min_by(|a, b| a.error.total_cmp(&b.error))
}

fn best_of(tried: Vec<Candidate>) -> Option<Candidate> {
    tried.into_iter().min_by(|a, b| a.error.total_cmp(&b.error))
}

impl Hook for Search<'_, '_> {
    fn output(&mut self, id: NodeId, node: &Node, output: &Array4<f32>) -> Result<(), HookError> {
        if matches!(node.op(), Op::Input) {
            self.values[id] = Some(output.clone());
            return Ok(());
        }
        if node.adder().is_some() {
            if self.bn_of.contains_key(&id) {
                // Its target is what BN makes of it.
                self.pending = Some(id);
                return Ok(());
            }
            self.quantize(id, output)?;
        }
        if let Some(adder) = self.pending.filter(|adder| node.inputs().contains(adder)) {
            self.pending = None;
            self.quantize(adder, output)?;
            self.compute(adder)?;
        }
        self.compute(id)
    }
}
