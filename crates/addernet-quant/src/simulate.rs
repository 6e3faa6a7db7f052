//! Simulated execution: the integers of a quantized model, computed on the float operator.
//!
//! Activations are turned into codes and the L1 operator runs on the codes themselves, as f32: the
//! sums stay below 2^24 for layers of up to 2^24/(2·255) = 32,896 taps, so that they are the integer
//! engine's sums exactly. Everything between the adder layers is float.

use std::collections::HashMap;

use addernet_graph::exec::{adder_conv, affine, pack};
use addernet_graph::{ConvAttributes, Executor, Hook, HookError, Model, Node, NodeId};
use addernet_kernels::{AdderKernelF32, PackedWeightsF32};
use ndarray::{Array2, Array4, s};
use rayon::prelude::*;

use crate::error::QuantError;
use crate::format::CodeFormat;
use crate::layer::{Group, QuantizedLayer};
use crate::model::QuantizedModel;

/// Runs a quantized model in simulation. Preparing it packs the codes; running is `&self`.
pub struct Simulator<'m> {
    executor: Executor<'m>,
    layers: HashMap<NodeId, SimulatedLayer>,
}

/// A layer's groups, ready to run.
pub(crate) struct SimulatedLayer {
    kernel: &'static dyn AdderKernelF32,
    activation_format: CodeFormat,
    bias: Vec<f32>,
    groups: Vec<SimulatedGroup>,
}

struct SimulatedGroup {
    group: Group,
    /// Output channels of the group, rising.
    channels: Vec<usize>,
    attributes: ConvAttributes,
    packed: PackedWeightsF32,
}

impl<'m> Simulator<'m> {
    /// Prepares `quantized` for the L1 operator `kernel`.
    ///
    /// # Errors
    /// If the operator refuses a layer.
    pub fn new(
        quantized: &'m QuantizedModel,
        kernel: &'static dyn AdderKernelF32,
    ) -> Result<Self, QuantError> {
        let model = quantized.model();
        let mut layers = HashMap::new();
        for (id, node, attributes) in model.graph().adder_nodes() {
            let Some(layer) = quantized.layers().get(node.name()) else {
                continue;
            };
            layers.insert(id, SimulatedLayer::new(layer, node, attributes, kernel)?);
        }
        Ok(Self {
            executor: Executor::new(model, kernel)?,
            layers,
        })
    }

    /// The float model around the simulated layers.
    pub fn model(&self) -> &'m Model {
        self.executor.model()
    }

    /// Runs a batch of images (N,H,W,C) and returns the logits (N, classes).
    ///
    /// # Errors
    /// If the images do not have the graph's input shape.
    pub fn run(&self, images: Array4<f32>) -> Result<Array2<f32>, QuantError> {
        self.run_with(images, &mut ())
    }

    /// Computes one node on inputs (N,H,W,C) of the caller's choice, of which an adder layer first makes codes.
    ///
    /// # Errors
    /// If there is no such node, it is the image itself, or the inputs do not fit it.
    pub fn node(&self, id: NodeId, inputs: &[&Array4<f32>]) -> Result<Array4<f32>, QuantError> {
        match (self.layers.get(&id), inputs) {
            (Some(layer), [x]) => {
                let node = &self.model().graph().nodes()[id];
                let refused = |error: HookError| QuantError::layer(node.name(), error.to_string());
                layer.run(node, x).map_err(refused)
            }
            _ => Ok(self.executor.node(id, inputs)?),
        }
    }

    /// Runs a batch under a hook, which sees and may replace every node but the adder layers.
    ///
    /// # Errors
    /// If the images do not have the graph's input shape, or the hook fails.
    pub fn run_with(
        &self,
        images: Array4<f32>,
        hook: &mut dyn Hook,
    ) -> Result<Array2<f32>, QuantError> {
        let mut hook = SimulationHook {
            simulator: self,
            inner: hook,
        };
        Ok(self.executor.run_with(images, &mut hook)?)
    }
}

impl SimulatedLayer {
    /// Prepares `layer`, which is that of `node`, for the L1 operator `kernel`.
    ///
    /// # Errors
    /// If the operator refuses the layer.
    pub(crate) fn new(
        layer: &QuantizedLayer,
        node: &Node,
        attributes: &ConvAttributes,
        kernel: &'static dyn AdderKernelF32,
    ) -> Result<Self, QuantError> {
        let taps = layer.taps();
        let mut groups = Vec::new();
        for (index, group) in layer.groups.iter().enumerate() {
            let channels: Vec<usize> = (0..attributes.out_channels)
                .filter(|&o| layer.group_of[o] == index)
                .collect();
            if channels.is_empty() {
                continue;
            }
            let attributes = ConvAttributes {
                out_channels: channels.len(),
                ..*attributes
            };
            let units: Vec<f32> = channels
                .iter()
                .flat_map(|&o| &layer.codes[o * taps..(o + 1) * taps])
                .map(|&code| layer.weight_format.units(code) as f32)
                .collect();
            let packed = pack(kernel, node, &attributes, &units)?;
            groups.push(SimulatedGroup {
                group: *group,
                channels,
                attributes,
                packed,
            });
        }
        Ok(Self {
            kernel,
            activation_format: layer.activation_format,
            bias: layer.bias.clone(),
            groups,
        })
    }

    /// The layer's output (N,H',W',O) for float activations `x` (N,H,W,C), which it quantizes.
    ///
    /// # Errors
    /// If `x` does not fit the layer.
    pub(crate) fn run(&self, node: &Node, x: &Array4<f32>) -> Result<Array4<f32>, HookError> {
        let mut y: Option<Array4<f32>> = None;
        for group in &self.groups {
            let units = activation_units(x, self.activation_format, group.group);
            let mut sums = adder_conv(self.kernel, node, &group.attributes, &units, &group.packed)?;
            let bias: Vec<f32> = group.channels.iter().map(|&o| self.bias[o]).collect();
            affine(&mut sums, &vec![group.group.step(); bias.len()], &bias);
            if self.groups.len() == 1 {
                return Ok(sums);
            }
            let (n, h, w, _) = sums.dim();
            let y = y.get_or_insert_with(|| Array4::zeros((n, h, w, self.bias.len())));
            for (i, &o) in group.channels.iter().enumerate() {
                y.slice_mut(s![.., .., .., o])
                    .assign(&sums.slice(s![.., .., .., i]));
            }
        }
        y.ok_or_else(|| "it has no group of kernels".into())
    }
}

/// Values per parallel piece: enough to be worth a thread's while.
const PIECE: usize = 1 << 16;

/// Adding and subtracting 1.5·2^23 rounds an f32 below 2^22 in magnitude to an integer, halves to
/// even. Unlike `f32::round_ties_even` it needs no instruction beyond the baseline of x86-64.
const ROUNDER: f32 = 12_582_912.0;

/// The grid units of each activation: its code times the format's multiplier, as f32.
fn activation_units(x: &Array4<f32>, format: CodeFormat, group: Group) -> Array4<f32> {
    let multiplier = f32::from(format.multiplier);
    let inverse = f32::from(group.levels) / (multiplier * group.scale);
    let (min, max) = (format.min() as f32, format.max() as f32);
    let mut units = x.as_standard_layout().into_owned();
    if let Some(values) = units.as_slice_mut() {
        values.par_chunks_mut(PIECE).for_each(|piece| {
            for v in piece {
                // The bounds are integers: clamping before rounding gives the same code.
                let clamped = (*v * inverse).clamp(min, max);
                *v = ((clamped + ROUNDER) - ROUNDER) * multiplier;
            }
        });
    }
    units
}

/// Puts the simulated layers before another hook.
struct SimulationHook<'a, 'm> {
    simulator: &'a Simulator<'m>,
    inner: &'a mut dyn Hook,
}

impl Hook for SimulationHook<'_, '_> {
    fn inputs(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<(), HookError> {
        self.inner.inputs(id, node, inputs)
    }

    fn replace(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<Option<Array4<f32>>, HookError> {
        match (self.simulator.layers.get(&id), inputs) {
            (Some(layer), [x]) => layer.run(node, x).map(Some),
            _ => self.inner.replace(id, node, inputs),
        }
    }

    fn output(&mut self, id: NodeId, node: &Node, output: &Array4<f32>) -> Result<(), HookError> {
        self.inner.output(id, node, output)
    }
}

#[cfg(test)]
mod tests;
