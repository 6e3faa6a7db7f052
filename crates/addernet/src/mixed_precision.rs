//! Mixed precision: bits per layer within a budget.

use std::collections::BTreeMap;

use addernet_data::calibration_indices;
use addernet_graph::exec::geometry;
use addernet_graph::{GraphError, Model};
use addernet_kernels::AdderKernelF32;
use addernet_quant::{
    BITS, Choice, QuantError, QuantizedLayer, Sensitivity, SensitivityProbe, allocate,
};
use serde::Serialize;

use crate::error::Error;
use crate::images::Images;
use crate::progress::{Progress, Stage};

/// What mixed precision may spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Bits on average, of weights and activations alike, over the terms |x − w| of the adder layers: what
    /// the adders' width, and with it their energy, depends on. 2 to 8.
    AverageBits(f64),
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

impl Budget {
    /// Checks the budget before any work is done.
    pub(crate) fn check(self) -> Result<(), Error> {
        let Self::AverageBits(bits) = self;
        let (least, most) = (f64::from(*BITS.start()), f64::from(*BITS.end()));
        if (least..=most).contains(&bits) {
            return Ok(());
        }
        let reason = format!("must be {least} to {most} bits on average, got {bits}");
        Err(QuantError::Config {
            setting: "budget",
            reason,
        }
        .into())
    }

    /// The bits that all layers can have alike: what the settings that depend on bits are taken from.
    pub fn uniform_bits(self) -> u8 {
        let Self::AverageBits(bits) = self;
        (bits as u8).clamp(*BITS.start(), *BITS.end())
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
/// `quantized_at` quantizes all layers with so many bits.
pub(crate) fn allocate_bits(
    model: &Model,
    training: &Images,
    budget: Budget,
    seed: u64,
    kernel: &'static dyn AdderKernelF32,
    progress: &dyn Progress,
    mut quantized_at: impl FnMut(u8) -> Result<BTreeMap<String, QuantizedLayer>, Error>,
) -> Result<BitAllocation, Error> {
    let measured = MEASURED
        .map(|bits| {
            let layers = quantized_at(bits)?;
            measure(model, &layers, training, seed, kernel, progress)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let terms = terms(model)?;
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
    let kls: Vec<Vec<f64>> = (0..terms.len()).map(kl).collect();
    let choices: Vec<Vec<Choice>> = (terms.iter().zip(&kls))
        .map(|((_, terms), kl)| {
            let choice = |(bits, &loss): (u8, &f64)| Choice {
                cost: f64::from(bits) * *terms as f64,
                loss,
            };
            BITS.zip(kl).map(choice).collect()
        })
        .collect();
    let total: f64 = terms.iter().map(|&(_, terms)| terms as f64).sum();
    let Budget::AverageBits(bits) = budget;
    let Some(chosen) = allocate(&choices, bits * total) else {
        let reason = format!(
            "{bits} bits on average are not enough for {} bits",
            BITS.start()
        );
        return Err(QuantError::Config {
            setting: "budget",
            reason,
        }
        .into());
    };
    let uniform = usize::from(budget.uniform_bits() - BITS.start());
    let spent = |chosen: &[usize]| -> f64 {
        let costs = choices.iter().zip(chosen).map(|(layer, &c)| layer[c].cost);
        costs.sum()
    };
    Ok(BitAllocation {
        average_bits: spent(&chosen) / total.max(1.0),
        expected_kl: kls.iter().zip(&chosen).map(|(kl, &c)| kl[c]).sum(),
        uniform_kl: kls.iter().map(|kl| kl[uniform]).sum(),
        layers: (terms.into_iter().zip(kls).zip(chosen))
            .map(|(((node, terms), kl), choice)| LayerAllocation {
                node,
                bits: BITS.start() + choice as u8,
                terms,
                kl,
            })
            .collect(),
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
fn terms(model: &Model) -> Result<Vec<(String, u64)>, Error> {
    let nodes = model.graph().nodes();
    model
        .graph()
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
