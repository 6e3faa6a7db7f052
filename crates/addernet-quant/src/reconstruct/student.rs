//! The network that is tuned: the quantized layers, BN and the classifier as parameters, with the
//! passes forward and backward.

use std::collections::BTreeMap;

use addernet_graph::exec::{affine, geometry};
use addernet_graph::{ConvAttributes, Executor, Hook, Model, Node, NodeId, Op};
use addernet_kernels::{
    AdderKernelF32, AdderKernelU8, KernelError, PackedWeightsU8, WeightGradient,
};
use ndarray::Array4;
use rayon::prelude::*;

use super::backward::{self, LANES};
use crate::error::QuantError;
use crate::format::CodeFormat;
use crate::layer::{Group, QuantizedLayer};
use crate::method::{FloatLayer, Grid};

/// Code steps by which a latent weight may be outside its codes: one that the clamp cut off should not come
/// back at the first small step.
pub(super) const MARGIN: f32 = 0.75;

/// A quantized adder layer whose codes can move.
#[derive(Clone, Debug)]
pub(super) struct AdderState {
    pub(super) attributes: ConvAttributes,
    pub(super) group: Group,
    pub(super) weight_format: CodeFormat,
    pub(super) activation_format: CodeFormat,
    pub(super) bias: Vec<f32>,
    /// What a grid unit of the sum is worth: the group's step when it was chosen. Later the step may move,
    /// which then says how activations are rounded; what follows the layer takes up the ratio.
    pub(super) output_step: f32,
    /// Weights in code steps, OIHW, not rounded.
    pub(super) latent: Vec<f32>,
    /// The latent weights' codes in grid units above the lowest, as numbers and packed for the
    /// operator; remade after every step.
    pub(super) units: Vec<f32>,
    pub(super) packed: Option<PackedWeightsU8>,
}

impl AdderState {
    /// A float layer's weights on a grid.
    pub(super) fn new(layer: &FloatLayer<'_>, grid: Grid) -> Self {
        let format = grid.weight;
        let (low, high) = (format.min() as f32 - MARGIN, format.max() as f32 + MARGIN);
        let step = grid.weight_step();
        let (_, bias) = grid.clamp(layer.weights, &layer.bias_or_zeros());
        Self {
            attributes: *layer.attributes,
            group: grid.group,
            weight_format: format,
            activation_format: grid.activation,
            bias,
            output_step: grid.group.step(),
            latent: layer
                .weights
                .iter()
                .map(|w| (w / step).clamp(low, high))
                .collect(),
            units: Vec::new(),
            packed: None,
        }
    }

    /// Codes of the latent weights.
    pub(super) fn codes(&self) -> Vec<i32> {
        let (min, max) = (self.weight_format.min(), self.weight_format.max());
        self.latent
            .iter()
            .map(|v| (v.round_ties_even() as i32).clamp(min, max))
            .collect()
    }

    /// The padding's code in grid units above the lowest.
    fn pad(&self) -> u8 {
        (-self.activation_format.units(self.activation_format.min())) as u8
    }

    pub(super) fn layer(&self, range: crate::ActivationRange) -> QuantizedLayer {
        let ratio = self.group.step() / self.output_step;
        QuantizedLayer {
            weight_format: self.weight_format,
            activation_format: self.activation_format,
            groups: vec![self.group],
            group_of: vec![0; self.bias.len()],
            codes: self.codes(),
            bias: self.bias.iter().map(|b| b * ratio).collect(),
            range,
        }
    }
}

/// BN as one factor and one offset per channel.
#[derive(Clone, Debug)]
pub(super) struct AffineState {
    pub(super) factor: Vec<f32>,
    pub(super) offset: Vec<f32>,
    /// The input's mean: factors turn around it, or a small change would move the output far.
    pub(super) centre: Vec<f32>,
}

/// A linear layer: weights (out, in) and bias.
#[derive(Clone, Debug)]
pub(super) struct LinearState {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    /// Whether the layer has a bias; if not, it stays 0.
    pub(super) has_bias: bool,
}

/// What can be tuned at one node. There are some dozens of them: their size does not matter.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub(super) enum State {
    Adder(AdderState),
    Affine(AffineState),
    Linear(LinearState),
}

impl State {
    /// Calls `with` for all values that can change.
    pub(super) fn visit(&mut self, with: &mut dyn FnMut(&str, &mut [f32])) {
        match self {
            State::Adder(state) => {
                with("latent", &mut state.latent);
                with("bias", &mut state.bias);
                with("scale", std::slice::from_mut(&mut state.group.scale));
                with("output_step", std::slice::from_mut(&mut state.output_step));
            }
            State::Affine(state) => {
                with("factor", &mut state.factor);
                with("offset", &mut state.offset);
                with("centre", &mut state.centre);
            }
            State::Linear(state) => {
                with("weight", &mut state.weight);
                with("bias", &mut state.bias);
            }
        }
    }
}

/// Gradients of a node's parameters: latent weights; factor and offset; weight and bias.
pub(super) type Gradients = BTreeMap<NodeId, [Vec<f32>; 2]>;

#[derive(Clone)]
pub(super) struct Student<'m> {
    pub(super) executor: &'m Executor<'m>,
    pub(super) kernel_u8: &'static dyn AdderKernelU8,
    pub(super) states: BTreeMap<NodeId, State>,
}

/// What a forward pass leaves for the backward one.
pub(super) struct Tape {
    pub(super) values: Vec<Array4<f32>>,
    /// Codes in grid units at the input of each adder layer.
    units: BTreeMap<NodeId, Vec<u8>>,
}

impl<'m> Student<'m> {
    /// The float network; adder layers are added as they are quantized.
    pub(super) fn new(
        executor: &'m Executor<'m>,
        kernel_u8: &'static dyn AdderKernelU8,
    ) -> Result<Self, QuantError> {
        let model = executor.model();
        let mut states = BTreeMap::new();
        for (id, node) in model.graph().nodes().iter().enumerate() {
            let values = |suffix| model.values(node, suffix).map(<[f32]>::to_vec);
            let state = match node.op() {
                Op::BatchNorm { channels, eps } => {
                    let (weight, bias) = (values("weight")?, values("bias")?);
                    let (mean, var) = (values("running_mean")?, values("running_var")?);
                    let factor = |c: usize| {
                        f64::from(weight[c]) / (f64::from(var[c]) + f64::from(*eps)).sqrt()
                    };
                    let offset = |c: usize| f64::from(bias[c]) - f64::from(mean[c]) * factor(c);
                    State::Affine(AffineState {
                        factor: (0..*channels).map(|c| factor(c) as f32).collect(),
                        offset: (0..*channels).map(|c| offset(c) as f32).collect(),
                        centre: mean,
                    })
                }
                Op::Linear {
                    out_features, bias, ..
                } => State::Linear(LinearState {
                    weight: values("weight")?,
                    bias: match bias {
                        true => values("bias")?,
                        false => vec![0.0; *out_features],
                    },
                    has_bias: *bias,
                }),
                _ => continue,
            };
            states.insert(id, state);
        }
        Ok(Self {
            executor,
            kernel_u8,
            states,
        })
    }

    /// The adder layer's step over the one that its outputs are computed with; 1 for other nodes.
    pub(super) fn step_ratio(&self, id: NodeId) -> f64 {
        match self.states.get(&id) {
            Some(State::Adder(state)) => f64::from(state.group.step() / state.output_step),
            _ => 1.0,
        }
    }

    pub(super) fn model(&self) -> &'m Model {
        self.executor.model()
    }

    fn kernel(&self) -> &'static dyn AdderKernelF32 {
        self.executor.kernel()
    }

    /// Packs the codes of an adder layer anew.
    pub(super) fn repack(&mut self, id: NodeId) -> Result<(), QuantError> {
        let kernel = self.kernel_u8;
        let node = &self.executor.model().graph().nodes()[id];
        if let Some(State::Adder(state)) = self.states.get_mut(&id) {
            let format = state.weight_format;
            let units: Vec<u8> = state
                .codes()
                .iter()
                .map(|&code| ((code - format.min()) * i32::from(format.multiplier)) as u8)
                .collect();
            state.units = units.iter().map(|&u| f32::from(u)).collect();
            let activation = state.activation_format;
            let [low, high] = [activation.min(), activation.max()].map(|q| activation.units(q));
            let largest = (high - low) as u8;
            let packed = kernel.pack_small(state.attributes.weight_shape(), &units, largest);
            state.packed = Some(packed.map_err(|e| QuantError::layer(node.name(), e.to_string()))?);
        }
        Ok(())
    }

    /// Packs the codes of all adder layers anew.
    pub(super) fn repack_all(&mut self) -> Result<(), QuantError> {
        let ids: Vec<NodeId> = self.states.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.repack(id))
    }

    /// One node's output on the student's own inputs; adder layers also return their input's codes, in
    /// grid units above the lowest.
    pub(super) fn node(
        &self,
        id: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<(Array4<f32>, Option<Vec<u8>>), QuantError> {
        match self.states.get(&id) {
            Some(State::Adder(state)) => {
                let failed = |e: KernelError| QuantError::layer(node.name(), e.to_string());
                let (n, height, width, _) = inputs[0].dim();
                let geometry = geometry(&state.attributes, n, height, width).map_err(failed)?;
                let (Some(packed), Some(x)) = (&state.packed, inputs[0].as_slice()) else {
                    return Err(QuantError::layer(node.name(), "its codes are not packed"));
                };
                let units = activation_units(x, state);
                let mut sums = vec![0i32; geometry.out_len()];
                let pad = state.pad();
                self.kernel_u8
                    .forward(&geometry, &units, pad, packed, &mut sums)
                    .map_err(failed)?;
                let shape = (
                    n,
                    geometry.out_height(),
                    geometry.out_width(),
                    state.bias.len(),
                );
                let step = state.output_step;
                let mut y = Array4::zeros(shape);
                if let Some(y) = y.as_slice_mut() {
                    let channels = state.bias.len();
                    for (y, sums) in y
                        .chunks_exact_mut(channels)
                        .zip(sums.chunks_exact(channels))
                    {
                        let (blocks, rest) = y.as_chunks_mut::<LANES>();
                        let (sums, last_sums) = sums.as_chunks::<LANES>();
                        let (biases, last_biases) = state.bias.as_chunks::<LANES>();
                        for ((y, sums), bias) in blocks.iter_mut().zip(sums).zip(biases) {
                            (0..LANES).for_each(|c| y[c] = bias[c] - step * sums[c] as f32);
                        }
                        for ((y, sum), bias) in rest.iter_mut().zip(last_sums).zip(last_biases) {
                            *y = bias - step * *sum as f32;
                        }
                    }
                }
                Ok((y, Some(units)))
            }
            Some(State::Affine(state)) => {
                let mut y = inputs[0].clone();
                affine(&mut y, &state.factor, &state.offset);
                Ok((y, None))
            }
            Some(State::Linear(state)) => Ok((backward::linear(inputs[0], state), None)),
            None => Ok((self.executor.node(id, inputs)?, None)),
        }
    }

    pub(super) fn forward(&self, images: Array4<f32>) -> Result<Tape, QuantError> {
        let nodes = self.model().graph().nodes();
        let mut tape = Tape {
            values: Vec::with_capacity(nodes.len()),
            units: BTreeMap::new(),
        };
        tape.values.push(images);
        for (id, node) in nodes.iter().enumerate().skip(1) {
            let inputs: Vec<_> = node.inputs().iter().map(|&i| &tape.values[i]).collect();
            let (y, units) = self.node(id, node, &inputs)?;
            if let Some(units) = units {
                tape.units.insert(id, units);
            }
            tape.values.push(y);
        }
        Ok(tape)
    }

    /// Nodes whose value depends on a parameter.
    fn tuned(&self) -> Vec<bool> {
        let nodes = self.model().graph().nodes();
        let mut tuned = vec![false; nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            tuned[id] = self.states.contains_key(&id) || node.inputs().iter().any(|&i| tuned[i]);
        }
        tuned
    }

    /// Gradients of all parameters, given those of the nodes' outputs that the loss looks at.
    pub(super) fn backward(
        &self,
        tape: &Tape,
        mut grads: Vec<Option<Array4<f32>>>,
    ) -> Result<Gradients, QuantError> {
        let nodes = self.model().graph().nodes();
        let tuned = self.tuned();
        let mut gradients = Gradients::new();
        for (id, node) in nodes.iter().enumerate().skip(1).rev() {
            let Some(grad) = grads[id].take() else {
                continue;
            };
            let wanted = node.inputs().iter().any(|&i| tuned[i]);
            let x = &tape.values[node.inputs()[0]];
            let grad_x = match (self.states.get(&id), node.op()) {
                (Some(State::Adder(state)), _) => {
                    let units = &tape.units[&id];
                    let (grad_x, grad_w, grad_scale) =
                        self.adder_backward(node, state, x, units, &grad, wanted)?;
                    gradients.insert(id, [grad_w, vec![grad_scale]]);
                    grad_x
                }
                (Some(State::Affine(state)), _) => {
                    gradients.insert(id, backward::affine_parameters(x, &state.centre, &grad));
                    let mut grad_x = grad;
                    affine(&mut grad_x, &state.factor, &vec![0.0; state.factor.len()]);
                    grad_x
                }
                (Some(State::Linear(state)), _) => {
                    let (grad_x, parameters) = backward::linear_backward(x, state, &grad);
                    gradients.insert(id, parameters);
                    grad_x
                }
                (None, Op::Add) => {
                    let second = node.inputs()[1];
                    if tuned[second] {
                        backward::accumulate(&mut grads[second], grad.clone());
                    }
                    grad
                }
                (None, op) if wanted => {
                    backward::fixed(self.model(), node, op, x, &tape.values[id], grad)?
                }
                (None, _) => continue,
            };
            if tuned[node.inputs()[0]] {
                backward::accumulate(&mut grads[node.inputs()[0]], grad_x);
            }
        }
        Ok(gradients)
    }

    /// Straight-through gradients of an adder layer: rounding passes them on, saturation does not.
    fn adder_backward(
        &self,
        node: &Node,
        state: &AdderState,
        x: &Array4<f32>,
        units: &[u8],
        grad: &Array4<f32>,
        wanted: bool,
    ) -> Result<(Array4<f32>, Vec<f32>, f32), QuantError> {
        let failed = |e: KernelError| QuantError::layer(node.name(), e.to_string());
        let (n, height, width, _) = x.dim();
        let geometry = geometry(&state.attributes, n, height, width).map_err(failed)?;
        // Relative to the code of padding, which is 0 to the operator.
        let pad = f32::from(state.pad());
        let codes: Vec<f32> = units.iter().map(|&u| f32::from(u) - pad).collect();
        let weights: Vec<f32> = state.units.iter().map(|&u| u - pad).collect();
        let Some(grad) = grad.as_slice() else {
            return Err(QuantError::layer(
                node.name(),
                "activations are not contiguous",
            ));
        };
        let mut grad_w = vec![0.0; state.units.len()];
        let kind = WeightGradient::Clamped;
        self.kernel()
            .grad_weight(&geometry, &codes, &weights, grad, kind, &mut grad_w)
            .map_err(failed)?;
        // Of the code, not of the weight: one code step is so much.
        let unit = state.output_step * f32::from(state.weight_format.multiplier);
        grad_w.iter_mut().for_each(|g| *g *= unit);
        let mut grad_x = Array4::zeros(x.dim());
        let mut grad_scale = 0.0f32;
        if wanted && let (Some(grad_x), Some(x)) = (grad_x.as_slice_mut(), x.as_slice()) {
            self.kernel()
                .grad_input(&geometry, &codes, &weights, grad, grad_x)
                .map_err(failed)?;
            let format = state.activation_format;
            let step = state.group.step() * f32::from(format.multiplier);
            let (low, high) = (
                (format.min() as f32 - 0.5) * step,
                (format.max() as f32 + 0.5) * step,
            );
            let ratio = state.output_step / state.group.step();
            for (g, &x) in grad_x.iter_mut().zip(x) {
                let inside = x >= low && x <= high;
                *g = if inside { *g * ratio } else { 0.0 };
                // The code of an activation inside is x/step: a larger step makes it smaller.
                grad_scale -= *g * x;
            }
        }
        Ok((grad_x, grad_w, grad_scale))
    }
}

/// Codes of activations, in grid units above the lowest.
fn activation_units(x: &[f32], state: &AdderState) -> Vec<u8> {
    let format = state.activation_format;
    let multiplier = f32::from(format.multiplier);
    let inverse = 1.0 / (multiplier * state.group.step());
    let (min, max) = (format.min() as f32, format.max() as f32);
    let mut units = vec![0u8; x.len()];
    units
        .par_chunks_mut(PIECE)
        .zip(x.par_chunks(PIECE))
        .for_each(|(units, x)| {
            for (unit, v) in units.iter_mut().zip(x) {
                // The sum's low byte is the code: its mantissa's lowest bit is worth 1.
                let code = (v * inverse).clamp(min, max) - min;
                *unit = (code + ROUNDER).to_bits() as u8;
            }
            if format.multiplier > 1 {
                units.iter_mut().for_each(|unit| *unit *= format.multiplier);
            }
        });
    units
}

/// Values per parallel piece.
const PIECE: usize = 1 << 16;

/// 1.5·2^23: adding it rounds a small f32 to an integer, halves to even, which is then in its low bits.
const ROUNDER: f32 = 12_582_912.0;

/// The student as a teacher: a hook sees every node's output.
impl Student<'_> {
    pub(super) fn run_with(
        &self,
        images: Array4<f32>,
        hook: &mut dyn Hook,
    ) -> Result<Array4<f32>, QuantError> {
        let nodes = self.model().graph().nodes();
        let last_uses = self.model().graph().last_uses();
        let mut values: Vec<Option<Array4<f32>>> = vec![None; nodes.len()];
        values[0] = Some(images);
        for (id, node) in nodes.iter().enumerate().skip(1) {
            let inputs: Vec<&Array4<f32>> = node
                .inputs()
                .iter()
                .filter_map(|&i| values[i].as_ref())
                .collect();
            let (y, _) = self.node(id, node, &inputs)?;
            hook.inputs(id, node, &inputs)
                .map_err(|e| QuantError::layer(node.name(), e.to_string()))?;
            hook.output(id, node, &y)
                .map_err(|e| QuantError::layer(node.name(), e.to_string()))?;
            for &input in node.inputs() {
                if last_uses[input] == id {
                    values[input] = None;
                }
            }
            values[id] = Some(y);
        }
        Ok(values.pop().flatten().unwrap_or_default())
    }
}
