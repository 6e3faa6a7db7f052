//! Mixed precision: bits per layer within a budget.

use std::collections::BTreeMap;

use addernet_cost::{Energy, EnergyModel, LayerEnergies};
use addernet_data::calibration_indices;
use addernet_graph::exec::geometry;
use addernet_graph::{Graph, GraphError, Model};
use addernet_kernels::AdderKernelF32;
use addernet_quant::{
    BITS, Choice, QuantError, QuantizedLayer, Sensitivity, SensitivityProbe, allocate,
};
use serde::Serialize;

use crate::error::Error;
use crate::images::Images;
use crate::progress::{Progress, Stage};

/// What mixed precision may spend.
#[derive(Clone, Debug, PartialEq)]
pub enum Budget {
    /// Bits on average, of weights and activations alike, over the terms |x − w| of the adder layers: what
    /// the adders' width, and with it their energy, depends on. 2 to 8.
    AverageBits(f64),
    /// Energy of the operations of one image, of the whole network ([`LayerEnergies`]).
    Energy {
        /// At most so much.
        limit: Energy,
        /// What operations cost.
        model: Box<EnergyModel>,
    },
}

/// Bits per layer, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BitAllocation {
    /// Average over the terms |x − w|.
    pub average_bits: f64,
    /// Sum over the layers of the divergence that each alone causes at the logits, in nats, before any
    /// tuning.
    pub expected_kl: f64,
    /// The same for the most bits within the budget that all layers can have alike.
    pub uniform_kl: f64,
    /// The adder layers in topological order.
    pub layers: Vec<LayerAllocation>,
}

/// One layer's bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerAllocation {
    /// The layer's node.
    pub node: String,
    /// Bits of its weights and of its activations.
    pub bits: u8,
    /// Terms |x − w| for one image.
    pub terms: u64,
    /// Mean divergence (Kullback-Leibler, nats) of the logits from the float network's when this layer alone
    /// has 2, 3, … 8 bits. Measured to 4 bits; beyond that each bit quarters it.
    pub kl: Vec<f64>,
}

/// Bits at which sensitivity is measured. With more the divergences vanish in rounding; each bit halves the
/// error, and quarters the divergence, which is quadratic in it.
const MEASURED: std::ops::RangeInclusive<u8> = 2..=4;

/// Training images that sensitivities are measured on, and how many go through the network at once.
const IMAGES: usize = 128;
const BATCH: usize = 32;

/// By how much a sum of costs may exceed the limit through rounding, relative to it.
const ROUNDING: f64 = 1e-9;

impl Budget {
    /// Checks what can be checked without a model.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self::AverageBits(bits) = *self else {
            return Ok(());
        };
        let (least, most) = (f64::from(*BITS.start()), f64::from(*BITS.end()));
        if (least..=most).contains(&bits) {
            return Ok(());
        }
        let reason = format!("must be {least} to {most} bits on average, got {bits}");
        Err(refusal(reason))
    }

    /// The most bits that all layers of a network can have alike; 2 if even those are too many.
    ///
    /// It is what settings that depend on bits are best taken from.
    ///
    /// # Errors
    /// If the graph's layers do not fit their inputs.
    pub fn uniform_bits(&self, graph: &Graph) -> Result<u8, Error> {
        Ok(self.costs(graph)?.uniform())
    }

    fn costs(&self, graph: &Graph) -> Result<Costs, Error> {
        let terms = terms(graph)?;
        let (layers, limit) = match self {
            Self::AverageBits(bits) => {
                let of = |terms: u64| BITS.map(|bits| f64::from(bits) * terms as f64).collect();
                let total: f64 = terms.iter().map(|&(_, terms)| terms as f64).sum();
                let layers = terms.iter().map(|&(_, terms)| of(terms)).collect();
                (layers, bits * total)
            }
            Self::Energy { limit, model } => {
                let energies = LayerEnergies::new(graph, model, 1)?;
                let of = |node: &str| -> Result<Vec<f64>, Error> {
                    BITS.map(|bits| Ok(energies.layer(node, bits, bits)?.picojoules()))
                        .collect()
                };
                let layers = terms.iter().map(|(node, _)| of(node));
                let limit = limit.picojoules() - energies.fixed().picojoules();
                (layers.collect::<Result<_, _>>()?, limit)
            }
        };
        Ok(Costs {
            terms,
            layers,
            limit,
        })
    }

    /// Why the smallest network is too large.
    fn too_small(&self, costs: &Costs) -> Error {
        let least = costs.with(*BITS.start());
        refusal(match self {
            Self::AverageBits(bits) => format!("{bits} bits on average are too few"),
            Self::Energy { limit, .. } => {
                let over = Energy::from_picojoules(limit.picojoules() - costs.limit + least);
                format!(
                    "{limit} are not enough: with {} bits in every layer the network takes {over}",
                    BITS.start()
                )
            }
        })
    }
}

fn refusal(reason: String) -> Error {
    QuantError::Config {
        setting: "budget",
        reason,
    }
    .into()
}

/// A budget in numbers.
struct Costs {
    /// The adder layers in topological order, and their terms |x − w| for one image.
    terms: Vec<(String, u64)>,
    /// Of each layer with 2, 3, … 8 bits.
    layers: Vec<Vec<f64>>,
    /// What they may come to together.
    limit: f64,
}

impl Costs {
    /// Of all layers with so many bits.
    fn with(&self, bits: u8) -> f64 {
        let width = usize::from(bits - BITS.start());
        self.layers.iter().map(|layer| layer[width]).sum()
    }

    fn affordable(&self, bits: u8) -> bool {
        self.with(bits) <= self.limit * (1.0 + ROUNDING)
    }

    fn uniform(&self) -> u8 {
        let mut bits = BITS.rev();
        bits.find(|&bits| self.affordable(bits))
            .unwrap_or(*BITS.start())
    }
}

impl BitAllocation {
    /// Bits of weights and activations by node.
    pub(crate) fn layer_bits(&self) -> BTreeMap<String, [u8; 2]> {
        let layers = self.layers.iter();
        layers.map(|l| (l.node.clone(), [l.bits; 2])).collect()
    }
}

/// Measures what each layer's quantization costs and gives the bits to those that need them.
///
/// `quantized_at` quantizes all layers with so many bits. A budget that is too small is refused before that.
pub(crate) fn allocate_bits(
    model: &Model,
    training: &Images,
    budget: &Budget,
    seed: u64,
    kernel: &'static dyn AdderKernelF32,
    progress: &dyn Progress,
    mut quantized_at: impl FnMut(u8) -> Result<BTreeMap<String, QuantizedLayer>, Error>,
) -> Result<BitAllocation, Error> {
    let costs = budget.costs(model.graph())?;
    if !costs.affordable(*BITS.start()) {
        return Err(budget.too_small(&costs));
    }
    let measured = MEASURED
        .map(|bits| {
            let layers = quantized_at(bits)?;
            measure(model, &layers, training, seed, kernel, progress)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let kl = |layer: usize| -> Vec<f64> {
        let mut kl: Vec<f64> = measured
            .iter()
            .map(|sensitivity| sensitivity.layers[layer].centred.kl)
            .collect();
        for _ in *MEASURED.end()..*BITS.end() {
            kl.push(kl.last().copied().unwrap_or_default() / 4.0);
        }
        kl
    };
    let kls: Vec<Vec<f64>> = (0..costs.terms.len()).map(kl).collect();
    let choices: Vec<Vec<Choice>> = (costs.layers.iter().zip(&kls))
        .map(|(costs, kl)| {
            let choice = |(&cost, &loss): (&f64, &f64)| Choice { cost, loss };
            costs.iter().zip(kl).map(choice).collect()
        })
        .collect();
    let Some(chosen) = allocate(&choices, costs.limit) else {
        return Err(budget.too_small(&costs));
    };
    let uniform = usize::from(costs.uniform() - BITS.start());
    let expected_kl = kls.iter().zip(&chosen).map(|(kl, &c)| kl[c]).sum();
    let uniform_kl = kls.iter().map(|kl| kl[uniform]).sum();
    let layers: Vec<LayerAllocation> = (costs.terms.into_iter().zip(kls).zip(chosen))
        .map(|(((node, terms), kl), choice)| LayerAllocation {
            node,
            bits: BITS.start() + choice as u8,
            terms,
            kl,
        })
        .collect();
    let total: f64 = layers.iter().map(|l| l.terms as f64).sum();
    let spent: f64 = layers
        .iter()
        .map(|l| f64::from(l.bits) * l.terms as f64)
        .sum();
    Ok(BitAllocation {
        average_bits: spent / total.max(1.0),
        expected_kl,
        uniform_kl,
        layers,
    })
}

fn measure(
    model: &Model,
    layers: &BTreeMap<String, QuantizedLayer>,
    training: &Images,
    seed: u64,
    kernel: &'static dyn AdderKernelF32,
    progress: &dyn Progress,
) -> Result<Sensitivity, Error> {
    let count = IMAGES.min(training.dataset().len());
    // With another seed than calibration, so that they are mostly other images.
    let indices = calibration_indices(training.dataset(), count, seed.wrapping_add(1))?;
    let mut probe = SensitivityProbe::new(model, layers, kernel)?;
    progress.begin(Stage::Sensitivity, count);
    for batch in training.batches(&indices, BATCH)? {
        let images = batch?.images;
        let count = images.dim().0;
        probe.add(images, None)?;
        progress.advance(count);
    }
    progress.end();
    Ok(probe.finish()?)
}

/// Terms |x − w| of each adder layer, for one image.
fn terms(graph: &Graph) -> Result<Vec<(String, u64)>, Error> {
    let nodes = graph.nodes();
    graph
        .adder_nodes()
        .map(|(_, node, attributes)| {
            let input = nodes[node.inputs()[0]].shape();
            let geometry =
                geometry(attributes, 1, input.height, input.width).map_err(|source| {
                    GraphError::Kernel {
                        node: node.name().to_owned(),
                        source,
                    }
                })?;
            Ok((node.name().to_owned(), geometry.elements()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
