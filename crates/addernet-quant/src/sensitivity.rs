//! Sensitivity: what quantizing one adder layer alone does to its output and to the logits.
//!
//! For each adder layer the network runs once more with that layer in integers and everything else in
//! floating point, on the one executor and under one hook. What comes out ranks the layers: which of
//! them limit the accuracy, and which could do with fewer bits.

mod signal;

use std::collections::BTreeMap;

use addernet_graph::{Executor, Hook, HookError, Model, Node, NodeId};
use addernet_kernels::AdderKernelF32;
use ndarray::{Array2, Array4};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::signal::{ChannelSignal, LogitSignal, remove_offsets, top};
use crate::error::QuantError;
use crate::layer::QuantizedLayer;
use crate::method::Method;
use crate::model::quantize_layers;
use crate::observer::Observations;
use crate::simulate::SimulatedLayer;

/// What quantizing each layer alone does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Number of images it was measured on.
    pub images: usize,
    /// Top-1 accuracy of the float model on these images, 0 to 1; absent without labels.
    pub float_top1: Option<f64>,
    /// The adder layers in topological order.
    pub layers: Vec<LayerSensitivity>,
}

/// What quantizing one adder layer does while all others stay in floating point.
///
/// A signal-to-noise ratio is 10·log10(signal power / error power) in dB: 6 dB more halve the error's
/// magnitude. It is absent where there is no error at all, or no signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSensitivity {
    /// The layer's node.
    pub node: String,
    /// At the layer's output, whose input is the float one. The signal is what varies within each
    /// channel, since the BN behind the layer takes the channel's mean away.
    pub output_snr_db: Option<f64>,
    /// The same without the mean error of each channel.
    pub centred_output_snr_db: Option<f64>,
    /// What becomes of the prediction.
    pub as_is: Effect,
    /// The same once each channel's mean error over a batch is taken away at the layer's output: what is
    /// left after BN re-estimation or a bias correction.
    pub centred: Effect,
}

/// What an error in one layer does to the prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Signal-to-noise ratio at the logits in dB, both of them centred over the classes, since softmax
    /// does not see a common offset.
    pub logits_snr_db: Option<f64>,
    /// Mean Kullback-Leibler divergence from the float network's softmax to the quantized one's, in
    /// nats; at least 0.
    pub kl: f64,
    /// Share of images on which both networks have the same largest logit, 0 to 1.
    pub top1_agreement: f64,
    /// Top-1 accuracy, 0 to 1; absent without labels.
    pub top1: Option<f64>,
}

/// Measures the sensitivity of every adder layer of `model` to `method`, on batches of images (N,H,W,C).
///
/// [`SensitivityProbe`] takes labels too, or layers that were quantized in another way.
///
/// # Errors
/// If the method refuses a layer, there is no image, the images do not fit, or logits are not finite.
pub fn sensitivity<E>(
    model: &Model,
    observations: &Observations,
    method: &dyn Method,
    kernel: &'static dyn AdderKernelF32,
    batches: impl IntoIterator<Item = Result<Array4<f32>, E>>,
) -> Result<Sensitivity, QuantError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let layers = quantize_layers(model, observations, method)?;
    let mut probe = SensitivityProbe::new(model, &layers, kernel)?;
    for batch in batches {
        let images = batch.map_err(|e| QuantError::Images {
            source: Box::new(e),
        })?;
        probe.add(images, None)?;
    }
    probe.finish()
}

/// Collects sensitivities batch by batch.
///
/// Results do not depend on the number of threads.
pub struct SensitivityProbe<'m> {
    executor: Executor<'m>,
    layers: Vec<ProbedLayer>,
    images: usize,
    /// Images that the float model gets right, and the number of images that had a label.
    float_right: usize,
    labelled: usize,
}

/// One layer in integers, and what was seen of its effect.
struct ProbedLayer {
    id: NodeId,
    node: String,
    simulated: SimulatedLayer,
    output: ChannelSignal,
    as_is: Seen,
    centred: Seen,
}

/// What was seen of the prediction.
#[derive(Default)]
struct Seen {
    logits: LogitSignal,
    /// Number of images that it gets right.
    right: usize,
}

impl<'m> SensitivityProbe<'m> {
    /// Prepares to compare the float `model` with itself where one of `layers`, by node name, is
    /// in the place of the float one. Layers of the model that are not among them are left out.
    ///
    /// # Errors
    /// If a layer does not fit the model.
    pub fn new(
        model: &'m Model,
        layers: &BTreeMap<String, QuantizedLayer>,
        kernel: &'static dyn AdderKernelF32,
    ) -> Result<Self, QuantError> {
        let mut probed = Vec::new();
        for (id, node, attributes) in model.graph().adder_nodes() {
            let Some(layer) = layers.get(node.name()) else {
                continue;
            };
            layer
                .check(attributes)
                .map_err(|reason| QuantError::layer(node.name(), reason))?;
            probed.push(ProbedLayer {
                id,
                node: node.name().to_owned(),
                simulated: SimulatedLayer::new(layer, node, attributes, kernel)?,
                output: ChannelSignal::new(attributes.out_channels),
                as_is: Seen::default(),
                centred: Seen::default(),
            });
        }
        Ok(Self {
            executor: Executor::new(model, kernel)?,
            layers: probed,
            images: 0,
            float_right: 0,
            labelled: 0,
        })
    }

    /// Runs a batch of images (N,H,W,C), with their N labels if accuracy is wanted, once in floating
    /// point and twice per layer.
    ///
    /// # Errors
    /// If the images do not fit the model, there are not N labels, or logits are not finite.
    pub fn add(&mut self, images: Array4<f32>, labels: Option<&[u32]>) -> Result<(), QuantError> {
        let count = images.dim().0;
        if let Some(labels) = labels
            && labels.len() != count
        {
            let reason = format!("needs a label per image, got {} for {count}", labels.len());
            return Err(QuantError::config("sensitivity", reason));
        }
        let executor = &self.executor;
        let float = executor.run(images.clone())?;
        if !float.iter().all(|v| v.is_finite()) {
            let reason =
                "the float model's logits are not finite: the model or the images are damaged";
            return Err(QuantError::config("sensitivity", reason));
        }
        // Each layer keeps its own sums, in the order of the batches: threads change nothing.
        self.layers
            .par_iter_mut()
            .try_for_each(|layer| layer.add(executor, &images, &float, labels))?;
        self.images += count;
        if let Some(labels) = labels {
            self.labelled += count;
            self.float_right += right(&float, labels);
        }
        Ok(())
    }

    /// The figures.
    ///
    /// # Errors
    /// If there was no image.
    pub fn finish(self) -> Result<Sensitivity, QuantError> {
        if self.images == 0 {
            return Err(QuantError::config(
                "sensitivity",
                "needs at least one image",
            ));
        }
        // Accuracy over a part of the images would not compare with the rest.
        let (all_labelled, images) = (self.labelled == self.images, self.images);
        let share = |right: usize| all_labelled.then(|| right as f64 / images as f64);
        Ok(Sensitivity {
            images,
            float_top1: share(self.float_right),
            layers: self
                .layers
                .into_iter()
                .map(|layer| LayerSensitivity {
                    output_snr_db: layer.output.snr_db(),
                    centred_output_snr_db: layer.output.centred_snr_db(),
                    as_is: layer.as_is.effect(share),
                    centred: layer.centred.effect(share),
                    node: layer.node,
                })
                .collect(),
        })
    }
}

impl ProbedLayer {
    fn add(
        &mut self,
        executor: &Executor<'_>,
        images: &Array4<f32>,
        float: &Array2<f32>,
        labels: Option<&[u32]>,
    ) -> Result<(), QuantError> {
        for (seen, output) in [
            (&mut self.as_is, Some(&mut self.output)),
            (&mut self.centred, None),
        ] {
            let mut hook = OneLayer {
                executor,
                id: self.id,
                simulated: &self.simulated,
                output,
            };
            let logits = executor.run_with(images.clone(), &mut hook)?;
            if !logits.iter().all(|v| v.is_finite()) {
                let reason = "with this layer quantized the logits are not finite";
                return Err(QuantError::layer(&self.node, reason));
            }
            seen.logits.add(float, &logits);
            if let Some(labels) = labels {
                seen.right += right(&logits, labels);
            }
        }
        Ok(())
    }
}

impl Seen {
    fn effect(&self, share: impl Fn(usize) -> Option<f64>) -> Effect {
        Effect {
            logits_snr_db: self.logits.snr_db(),
            kl: self.logits.kl(),
            top1_agreement: self.logits.agreement(),
            top1: share(self.right),
        }
    }
}

/// Puts one layer in integers into the float network and compares its output with the float one.
struct OneLayer<'a, 'm> {
    executor: &'a Executor<'m>,
    id: NodeId,
    simulated: &'a SimulatedLayer,
    /// Takes the error as it is; without it, the channels' mean errors are taken away.
    output: Option<&'a mut ChannelSignal>,
}

impl Hook for OneLayer<'_, '_> {
    fn replace(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<Option<Array4<f32>>, HookError> {
        let (true, [x]) = (id == self.id, inputs) else {
            return Ok(None);
        };
        let float = self.executor.node(id, &[x])?;
        let mut quantized = self.simulated.run(node, x)?;
        match &mut self.output {
            Some(output) => output.add(&float, &quantized),
            None => remove_offsets(&float, &mut quantized),
        }
        Ok(Some(quantized))
    }
}

/// Number of rows whose largest logit is the label's.
fn right(logits: &Array2<f32>, labels: &[u32]) -> usize {
    let rows = logits.rows().into_iter().zip(labels);
    rows.filter(|(row, label)| top(*row) == **label as usize)
        .count()
}

#[cfg(test)]
mod tests;
