//! Analysis of a model: distributions of weights, activations and codes, and what quantization costs
//! layer by layer.

mod histogram;

use std::collections::BTreeMap;

use addernet_data::calibration_indices;
use addernet_graph::{Executor, Hook, Model};
use addernet_kernels::AdderKernelF32;
use addernet_quant::{
    Observations, Provenance, QuantizedLayer, QuantizedModel, Sensitivity, SensitivityProbe,
    Simulator,
};
use serde::Serialize;

use self::histogram::ActivationCounter;
pub use self::histogram::{Axis, CodeHistogram};
use crate::any_model::AnyModel;
use crate::error::Error;
use crate::images::Images;
use crate::inspect::{ModelReport, inspect};
use crate::progress::{Progress, Stage};
use crate::quantize::{QuantizeOptions, quantize};

/// Images per pass: few, since each layer of the network runs them in a thread of its own.
const BATCH: usize = 32;

/// How to analyse.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzeOptions {
    /// How a float model is quantized; BN is never re-estimated for it. Its seed chooses images, for
    /// quantized models too.
    pub quantize: QuantizeOptions,
    /// Number of training images for the activations' distributions and the sensitivities, balanced over
    /// the classes.
    pub images: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// Shapes, ranges and shares.
    #[serde(flatten)]
    pub model: ModelReport,
    /// Distributions of the adder layers in topological order.
    pub distributions: Vec<Distribution>,
    /// What quantizing one layer alone costs; absent without training images or without a float model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<SensitivityReport>,
}

/// Values of one adder layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// The layer's node.
    pub node: String,
    /// The bins of `weights` and `activations`.
    pub axis: Axis,
    /// Number of weights per bin: the float ones, or those that the codes stand for where no float model
    /// was given.
    pub weights: Vec<u64>,
    /// Number of input activations per bin; absent without images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<Vec<u64>>,
    /// The activations' range after the outlier clamp, \[low, bound\]; absent if nobody observed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f32; 2]>,
    /// Scales of the layer's groups, rising; empty if it was not quantized.
    pub scales: Vec<f32>,
    /// Its codes, if it was quantized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<CodeHistogram>,
}

/// Sensitivities with what they are about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SensitivityReport {
    /// How the layers were quantized.
    pub quantization: Provenance,
    /// Per layer.
    #[serde(flatten)]
    pub sensitivity: Sensitivity,
}

/// Analyses `model`.
///
/// A float model is quantized on `training` as the options say. A quantized one is compared with
/// `reference`, the float model that it was made from. Without images there are neither activations
/// nor sensitivities.
///
/// # Errors
/// If `reference` is another network, there are fewer images than asked for, or quantization fails.
pub fn analyze(
    model: &AnyModel,
    reference: Option<&Model>,
    training: Option<&Images>,
    options: &AnalyzeOptions,
    kernel: &'static dyn AdderKernelF32,
    progress: &dyn Progress,
) -> Result<Analysis, Error> {
    let subject = Subject::of(model, reference, training, options, kernel, progress)?;
    let report = inspect(model, subject.observations.as_ref())?;
    let mut distributions = subject.distributions(&report)?;
    let mut sensitivity = None;
    if let Some(images) = training {
        // With another seed than calibration, so that they are mostly other images.
        let seed = options.quantize.seed.wrapping_add(1);
        let indices = calibration_indices(images.dataset(), options.images, seed)?;
        subject.count_activations(&mut distributions, images, &indices, kernel, progress)?;
        if let (Some(float), Some((layers, provenance))) = (subject.float, &subject.quantized) {
            let sensitivity_of = Probe {
                float,
                layers,
                images,
            };
            sensitivity = Some(SensitivityReport {
                quantization: provenance.clone(),
                sensitivity: sensitivity_of.run(&indices, kernel, progress)?,
            });
        }
    }
    Ok(Analysis {
        model: report,
        distributions,
        sensitivity,
    })
}

/// The model from both sides, as far as they are known.
struct Subject<'a> {
    /// The float model, if there is one.
    float: Option<&'a Model>,
    /// The quantized model, if that is what was given.
    file: Option<&'a QuantizedModel>,
    /// The quantized layers by node name, and how they were made.
    quantized: Option<(BTreeMap<String, QuantizedLayer>, Provenance)>,
    /// What calibration of a float model saw.
    observations: Option<Observations>,
}

impl<'a> Subject<'a> {
    fn of(
        model: &'a AnyModel,
        reference: Option<&'a Model>,
        training: Option<&Images>,
        options: &AnalyzeOptions,
        kernel: &'static dyn AdderKernelF32,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        match (model, training) {
            (AnyModel::Quantized(file), _) => {
                if let Some(reference) = reference {
                    check_reference(file, reference)?;
                }
                Ok(Self {
                    float: reference,
                    file: Some(file),
                    quantized: Some((file.layers().clone(), file.provenance().clone())),
                    observations: None,
                })
            }
            (AnyModel::Float(float), Some(training)) => {
                let options = QuantizeOptions {
                    bn_images: 0,
                    ..options.quantize.clone()
                };
                let made = quantize(float, training, &options, kernel, progress)?;
                let quantized = made.result();
                Ok(Self {
                    float: Some(float),
                    file: None,
                    quantized: Some((quantized.layers().clone(), quantized.provenance().clone())),
                    observations: Some(made.observations),
                })
            }
            (AnyModel::Float(float), None) => Ok(Self {
                float: Some(float),
                file: None,
                quantized: None,
                observations: None,
            }),
        }
    }

    /// All but the activations.
    fn distributions(&self, report: &ModelReport) -> Result<Vec<Distribution>, Error> {
        let Some(model) = self.float.or(self.file.map(QuantizedModel::model)) else {
            return Ok(Vec::new());
        };
        let adders = model.graph().adder_nodes().zip(&report.layers);
        let distribution =
            |((_, node, _), layer): ((_, &addernet_graph::Node, _), &crate::LayerReport)| {
                let weights = model.values(node, "adder")?;
                let quantized = self
                    .quantized
                    .as_ref()
                    .and_then(|(layers, _)| layers.get(node.name()));
                // Half of the activations' range and more is on the linear part.
                let unit = layer.activations.map(|a| f64::from(a.bound) / 4.0);
                let seen = layer.activations.map_or([0.0; 2], |a| [a.min, a.max]);
                let low = weights.iter().copied().fold(seen[0], f32::min);
                let high = weights.iter().copied().fold(seen[1], f32::max);
                let axis = Axis::new(low, high, unit);
                let mut scales: Vec<f32> = quantized
                    .map(|layer| layer.groups.iter().map(|g| g.scale).collect())
                    .unwrap_or_default();
                scales.sort_by(f32::total_cmp);
                Ok(Distribution {
                    node: node.name().to_owned(),
                    weights: axis.count(weights),
                    axis,
                    activations: None,
                    range: layer.activations.map(|a| [a.low, a.bound]),
                    scales,
                    codes: quantized.map(CodeHistogram::of),
                })
            };
        adders.map(distribution).collect()
    }

    /// Runs the network on the images: the float one, or else the quantized one in simulation.
    fn count_activations(
        &self,
        distributions: &mut [Distribution],
        images: &Images,
        indices: &[usize],
        kernel: &'static dyn AdderKernelF32,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let mut counter = ActivationCounter {
            layers: distributions
                .iter()
                .map(|d| (d.node.clone(), (d.axis.clone(), vec![0; d.weights.len()])))
                .collect(),
        };
        let float = match self.float {
            Some(model) => Some(Executor::new(model, kernel)?),
            None => None,
        };
        let simulator = match self.file {
            Some(quantized) => Some(Simulator::new(quantized, kernel)?),
            None => None,
        };
        progress.begin(Stage::Analysis, indices.len());
        for batch in images.batches(indices, BATCH)? {
            let batch = batch?;
            let hook: &mut dyn Hook = &mut counter;
            match (&float, &simulator) {
                (Some(executor), _) => drop(executor.run_with(batch.images, hook)?),
                (None, Some(simulator)) => drop(simulator.run_with(batch.images, hook)?),
                (None, None) => {}
            }
            progress.advance(batch.labels.len());
        }
        progress.end();
        for distribution in distributions {
            distribution.activations = counter
                .layers
                .remove(&distribution.node)
                .map(|(_, counts)| counts);
        }
        Ok(())
    }
}

/// What sensitivities are measured with.
struct Probe<'a> {
    float: &'a Model,
    layers: &'a BTreeMap<String, QuantizedLayer>,
    images: &'a Images,
}

impl Probe<'_> {
    fn run(
        &self,
        indices: &[usize],
        kernel: &'static dyn AdderKernelF32,
        progress: &dyn Progress,
    ) -> Result<Sensitivity, Error> {
        let mut probe = SensitivityProbe::new(self.float, self.layers, kernel)?;
        progress.begin(Stage::Analysis, indices.len());
        for batch in self.images.batches(indices, BATCH)? {
            let batch = batch?;
            probe.add(batch.images, Some(&batch.labels))?;
            progress.advance(batch.labels.len());
        }
        progress.end();
        Ok(probe.finish()?)
    }
}

/// The quantized model must have been made from the graph of `reference`.
fn check_reference(file: &QuantizedModel, reference: &Model) -> Result<(), Error> {
    let layers = |model: &Model| -> Vec<(String, [usize; 4])> {
        let adders = model.graph().adder_nodes();
        adders
            .map(|(_, node, attributes)| (node.name().to_owned(), attributes.weight_shape()))
            .collect()
    };
    if layers(file.model()) == layers(reference) {
        return Ok(());
    }
    Err(Error::Reference {
        graph: file.model().graph().name().to_owned(),
        reference: reference.graph().name().to_owned(),
    })
}

#[cfg(test)]
mod tests;
