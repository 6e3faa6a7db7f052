//! Our own method, and what `auto` stands for: the quantized network is made to reproduce the float one.
//!
//! Everything is on the activations' grid: behind a ReLU, weights are cut to the layer's scale without loss
//! and have unsigned codes like the activations ([`ActivationOriented`](crate::ActivationOriented)).
//!
//! 1. **Search.** Layer by layer, inputs quantized already, the scale is chosen on the squared error of the
//!    layer's output behind BN, whose factor and offset per channel are fitted for each scale by least
//!    squares.
//! 2. **Tuning.** The whole network learns to reproduce the float one, without labels: logits
//!    (Kullback–Leibler divergence at a temperature, Hinton et al. 2015) and features behind every ReLU
//!    (relative squared error). Codes move through latent weights and straight-through rounding, scales
//!    through that of the activations (in the manner of Esser et al. 2020, arXiv 1902.08153); BN's
//!    factors and offsets and the classifier move with them. The operator's gradients are clamp(w − x, −1, 1)
//!    in units of the grid: on integers that is the derivative itself, and 0 at its jump.

mod backward;
mod fit;
mod learner;
mod loss;
mod optimizer;
mod search;
mod student;

use std::collections::BTreeMap;

use addernet_graph::{Executor, Graph, Hook, HookError, Model, Node, NodeId, Op, Parameters};
use addernet_kernels::{AdderKernelF32, AdderKernelU8};
use ndarray::{Array4, ArrayD};
use serde::{Deserialize, Serialize};

use crate::bn::batch_statistics;
use crate::error::QuantError;
use crate::format::check_bits;
use crate::model::{Provenance, QuantizedModel};
use crate::observer::Observations;
use crate::ordinary::round_ordinary;
pub use learner::{Learned, Learner};
use search::Search;
use student::{State, Student};

/// Settings of the method.
///
/// [`Reconstruction::new`] gives the recommended ones; switch off what an ablation is to do without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconstruction {
    /// Bits of the weights, 2 to 8.
    pub weight_bits: u8,
    /// Bits of the activations, 2 to 8.
    pub activation_bits: u8,
    /// Layers with other bits, by node name: weights, activations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layer_bits: BTreeMap<String, [u8; 2]>,
    /// Whether each layer's scale is searched. Otherwise it is the calibrated bound of its activations.
    pub scale_search: bool,
    /// Whether BN's factors and offsets are fitted to the quantized layers' outputs.
    pub correction: bool,
    /// The second stage.
    pub tuning: Tuning,
}

/// How the second stage learns (Adam with a cosine schedule).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Batches of images; 0 leaves the stage out.
    pub steps: usize,
    /// Learning rate of BN and the classifier, relative to the parameters' own size.
    pub affine_rate: f32,
    /// Learning rate of the latent weights, in steps of their codes; 0 leaves the codes alone.
    pub weight_rate: f32,
    /// Learning rate of the scales' logarithms; 0 leaves the scales alone.
    pub scale_rate: f32,
    /// Temperature of the logits' softmax, above 0.
    pub temperature: f32,
    /// Weight of the features' relative error beside the logits' divergence, at least 0.
    pub features: f32,
    /// Share of the images of a batch, 0 to 1, that whoever supplies them mixes with others: the teacher says what a mixed
    /// image is, and the network that is tuned sees more than it was trained on.
    #[serde(default)]
    pub mixup: f32,
    /// Share of the labels' cross-entropy in what is asked of the logits, 0 to 1; the rest is the divergence from the
    /// float network's. [`reconstruct`] has no labels.
    #[serde(default)]
    pub labels: f32,
}

impl Reconstruction {
    /// The recommended settings. The fewer bits, the longer the tuning.
    pub fn new(weight_bits: u8, activation_bits: u8) -> Self {
        Self {
            weight_bits,
            activation_bits,
            layer_bits: BTreeMap::new(),
            scale_search: true,
            correction: true,
            tuning: Tuning::for_bits(weight_bits.min(activation_bits)),
        }
    }

    /// Bits of a layer's weights and activations.
    pub fn bits_of(&self, node: &str) -> [u8; 2] {
        let uniform = [self.weight_bits, self.activation_bits];
        self.layer_bits.get(node).copied().unwrap_or(uniform)
    }

    fn check(&self, graph: &Graph) -> Result<(), QuantError> {
        for (_, node, _) in graph.adder_nodes() {
            self.bits_of(node.name())
                .map(check_bits)
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?;
        }
        if let Some(name) = (self.layer_bits.keys())
            .find(|name| graph.node(name).is_none_or(|node| node.adder().is_none()))
        {
            let reason = "bits were given for it, but it is not an adder layer of the graph";
            return Err(QuantError::layer(name, reason));
        }
        let Tuning {
            affine_rate,
            weight_rate,
            scale_rate,
            temperature,
            features,
            mixup,
            labels,
            ..
        } = self.tuning;
        let rates = [affine_rate, weight_rate, scale_rate, features];
        if rates.iter().all(|v| v.is_finite() && *v >= 0.0)
            && temperature.is_finite()
            && temperature > 0.0
            && (0.0..=1.0).contains(&labels)
            && (0.0..=1.0).contains(&mixup)
        {
            if labels > 0.0 && mixup > 0.0 {
                let reason =
                    "images that are mixed have no label: mixup and labels exclude each other";
                return Err(QuantError::config("tuning", reason));
            }
            return Ok(());
        }
        let reason = "rates and weights must be at least 0, the temperature above 0, shares of labels and mixed images 0 to 1";
        Err(QuantError::config("tuning", reason))
    }
}

impl Tuning {
    /// Images per batch that the rates are meant for.
    pub const BATCH: usize = 32;

    /// The recommended settings for so many bits; they were chosen on training images that were not
    /// tuned with.
    pub fn for_bits(bits: u8) -> Self {
        Self {
            steps: Self::epochs(bits) * 2048 / Self::BATCH,
            affine_rate: 0.002,
            weight_rate: 0.002,
            scale_rate: 0.003,
            temperature: 2.0,
            features: 10.0,
            mixup: 0.5,
            labels: 0.0,
        }
    }

    /// Recommended passes over 2,048 images.
    pub fn epochs(bits: u8) -> usize {
        match bits {
            0..=2 => 16,
            3 => 10,
            4 => 6,
            _ => 2,
        }
    }
}

/// Is told how far [`reconstruct`] is.
pub trait ReconstructionProgress {
    /// One more layer's scale was found, of twice as many as there are adder layers if there is a
    /// second stage: its teacher has codes, too.
    fn layer(&self) {}
    /// So many more images were learned from.
    fn tuned(&self, images: usize) {
        let _ = images;
    }
}

impl ReconstructionProgress for () {}

/// The operators that run the float and the quantized network.
#[derive(Clone, Copy)]
pub struct Kernels {
    /// On floats.
    pub f32: &'static dyn AdderKernelF32,
    /// On codes.
    pub u8: &'static dyn AdderKernelU8,
}

/// Training images for a reconstruction, all of them (N,H,W,C).
pub struct TrainingImages<F> {
    /// What scales are searched on, and BN's statistics taken from; some hundreds.
    pub search: Array4<f32>,
    /// The images of a step of the tuning; called with its number.
    pub batch: F,
}

/// Quantizes `model` so that it reproduces itself.
///
/// The result does not depend on the number of threads; it may with the instruction set, whose gradients
/// are rounded in their own way. BN's running statistics become those of the quantized layers.
///
/// The teacher of the tuning is not the float network itself but its form with 8-bit codes, searched in the same
/// way: several times faster, and much closer to it than few bits are.
///
/// # Errors
/// If the settings do not fit the graph, a layer was not calibrated, images do not fit or the source fails, or
/// the loss is no longer finite.
pub fn reconstruct<F, E>(
    model: &Model,
    observations: &Observations,
    settings: &Reconstruction,
    images: TrainingImages<F>,
    provenance: Provenance,
    kernels: Kernels,
    progress: &dyn ReconstructionProgress,
) -> Result<QuantizedModel, QuantError>
where
    F: FnMut(usize) -> Result<Array4<f32>, E>,
    E: std::error::Error + Send + Sync + 'static,
{
    settings.check(model.graph())?;
    let TrainingImages {
        search: images,
        mut batch,
    } = images;
    // What is tuned runs on the ordinary layers' weights as they will be.
    let model = &round_ordinary(model)?;
    let executor = Executor::new(model, kernels.f32)?;
    let steps = settings.tuning.steps;
    if steps == 0 {
        let mut student = Student::new(&executor, kernels.u8)?;
        let layer_done = |_| progress.layer();
        Search::new(settings, observations, &mut student, &layer_done)
            .run(&executor, images.clone())?;
        return finish(model, observations, &student, images, provenance);
    }
    if settings.tuning.labels != 0.0 {
        return Err(QuantError::config("labels", "a reconstruction has none"));
    }
    let mut learner = Learner::search(
        &executor,
        observations,
        settings,
        &images,
        kernels.u8,
        progress,
    )?;
    for step in 0..steps {
        let images = batch(step).map_err(|e| QuantError::Images {
            source: Box::new(e),
        })?;
        let learned = learner.learn(&images, None, step, optimizer::schedule(step, steps))?;
        if !learned.loss.is_finite() {
            let reason = "the loss is not finite: use a lower learning rate";
            return Err(QuantError::config("tuning", reason));
        }
        progress.tuned(images.dim().0);
    }
    learner.finish(observations, &images, provenance)
}

/// The quantized model that a student stands for.
fn finish(
    model: &Model,
    observations: &Observations,
    student: &Student<'_>,
    images: Array4<f32>,
    provenance: Provenance,
) -> Result<QuantizedModel, QuantError> {
    let mut layers = BTreeMap::new();
    for (id, node, _) in model.graph().adder_nodes() {
        if let Some(State::Adder(state)) = student.states.get(&id) {
            let layer = state.layer(observations.range(node.name())?);
            layers.insert(node.name().to_owned(), layer);
        }
    }
    let (graph, parameters, info) = model.clone().into_parts();
    let mut writer = Writer {
        student,
        parameters,
    };
    student.run_with(images, &mut writer)?;
    let model = Model::new(graph, writer.parameters)?.with_info(info)?;
    QuantizedModel::from_layers(&model, layers, provenance)
}

/// Writes BN and linear layers as they are in the student.
///
/// BN's statistics become those of the quantized layers, so that its weight is again the deviation of its
/// output: the integer engine derives its formats from that.
struct Writer<'s, 'm> {
    student: &'s Student<'m>,
    parameters: Parameters,
}

impl Hook for Writer<'_, '_> {
    fn inputs(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<(), HookError> {
        let mut write = |suffix: &str, shape: Vec<usize>, values: Vec<f32>| {
            let array = ArrayD::from_shape_vec(shape, values)?;
            self.parameters.insert(node.parameter(suffix), array);
            Ok::<_, HookError>(())
        };
        match (self.student.states.get(&id), node.op()) {
            (Some(State::Affine(state)), Op::BatchNorm { channels, eps }) => {
                let (mean, var) = batch_statistics(inputs[0]);
                // The student's sums are in units of the step that was found first.
                let ratio = self.student.step_ratio(node.inputs()[0]);
                let deviation = |c: usize| (ratio * ratio * var[c] + f64::from(*eps)).sqrt();
                let factor = |c: usize| f64::from(state.factor[c]) / ratio;
                let offset = |c: usize| f64::from(state.offset[c]) + factor(c) * ratio * mean[c];
                let values =
                    |of: &dyn Fn(usize) -> f64| (0..*channels).map(|c| of(c) as f32).collect();
                for (suffix, values) in [
                    ("weight", values(&|c| factor(c) * deviation(c))),
                    ("bias", values(&offset)),
                    ("running_mean", values(&|c| ratio * mean[c])),
                    ("running_var", values(&|c| ratio * ratio * var[c])),
                ] {
                    write(suffix, vec![*channels], values)?;
                }
            }
            (
                Some(State::Linear(state)),
                Op::Linear {
                    in_features,
                    out_features,
                    bias,
                },
            ) => {
                write(
                    "weight",
                    vec![*out_features, *in_features],
                    state.weight.clone(),
                )?;
                if *bias {
                    write("bias", vec![*out_features], state.bias.clone())?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
