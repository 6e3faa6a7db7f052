//! Training in floating point, on Burn.

use std::collections::BTreeMap;

use addernet_data::Batch;
use addernet_graph::{Graph, Model};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::TrainOptions;
use super::trainee::{At, Outcome, State, Trained, Trainee};
use crate::device::TrainDevice;
use crate::error::TrainError;
use crate::evaluate::largest;
use crate::network::{Network, NetworkOptions};
use crate::recipe::Recipe;
use crate::sgd::Sgd;

/// Steps on a GPU between two readings of the losses: reading one waits for all work that has been queued, and the GPU
/// then waits for more.
const READ_EVERY: usize = 16;

/// A network with its optimizer.
pub(super) struct FloatTrainee {
    network: Network,
    sgd: Sgd,
    loss: CrossEntropyLoss,
    device: Device,
    /// On a GPU, what the last steps came to, if they have not told it.
    untold: Option<Untold>,
    /// Whether any step has told what it came to.
    told: bool,
    kind: TrainDevice,
}

/// What steps came to, still on the device.
struct Untold {
    /// The losses of all images, added up, and how many of them were classified correctly: `[2]`.
    sums: Tensor<1>,
    /// Mean loss of the last batch, `[1]`.
    loss: Tensor<1>,
    steps: usize,
    images: usize,
}

impl FloatTrainee {
    pub(super) fn new(
        recipe: &Recipe,
        model: &Model,
        velocities: BTreeMap<String, Vec<f32>>,
        options: TrainOptions,
    ) -> Result<Self, TrainError> {
        let kind = options.device;
        let device = kind.open()?.autodiff();
        let options = NetworkOptions {
            eta: Some(recipe.eta),
            bn_momentum: recipe.bn_momentum,
            kernel: options.kernel,
        };
        let network = Network::from_model(model, options, &device)?;
        let mut sgd = Sgd::new(recipe.momentum, recipe.weight_decay);
        sgd.restore(&network, velocities, &device.clone().inner());
        let smoothing = (recipe.label_smoothing > 0.0).then_some(recipe.label_smoothing);
        let loss = CrossEntropyLossConfig::new()
            .with_smoothing(smoothing)
            .init(&device);
        Ok(Self {
            network,
            sgd,
            loss,
            device,
            untold: None,
            told: false,
            kind,
        })
    }

    /// The network as it is now.
    pub(super) fn model(&self) -> Result<Model, TrainError> {
        self.network.to_model()
    }

    fn learn(&mut self, loss: Tensor<1>, lr: f64) {
        let grads = GradientsParams::from_grads(loss.backward(), &self.network);
        self.network = self.sgd.step(lr, self.network.clone(), grads);
    }

    /// The rest of a step without reading anything back, but for the losses now and then. A loss that is not finite is
    /// found out then: before anything is saved.
    fn queue(
        &mut self,
        logits: Tensor<2>,
        labels: Tensor<1, Int>,
        at: At,
    ) -> Result<Option<Outcome>, TrainError> {
        let [images, _] = logits.dims();
        let guesses = logits.clone().inner().argmax(1).reshape([images]);
        let correct = guesses.equal(labels.clone().inner()).float().sum();
        let loss = self.loss.forward(logits, labels);
        let value = loss.clone().inner().reshape([1]);
        let sums = value.clone().mul_scalar(images as f64);
        let sums = Tensor::cat(vec![sums, correct.reshape([1])], 0);
        self.learn(loss, at.lr);
        let untold = match self.untold.take() {
            Some(before) => Untold {
                sums: before.sums + sums,
                loss: value,
                steps: before.steps + 1,
                images: before.images + images,
            },
            None => Untold {
                sums,
                loss: value,
                steps: 1,
                images,
            },
        };
        let due = untold.steps == READ_EVERY || !self.told;
        self.untold = Some(untold);
        if due { self.settle() } else { Ok(None) }
    }

    fn tensors(&self, batch: &Batch) -> (Tensor<4>, Tensor<1, Int>) {
        let (n, height, width, channels) = batch.images.dim();
        let images: Vec<f32> = match batch.images.as_slice() {
            Some(values) => values.to_vec(),
            None => batch.images.iter().copied().collect(),
        };
        let labels: Vec<i64> = batch.labels.iter().map(|&label| label.into()).collect();
        let images = TensorData::new(images, [n, height, width, channels]);
        (
            Tensor::from_data(images, &self.device),
            Tensor::from_data(TensorData::new(labels, [n]), &self.device),
        )
    }
}

impl Trainee for FloatTrainee {
    fn graph(&self) -> &Graph {
        self.network.graph()
    }

    fn step(&mut self, batch: &Batch, at: At) -> Result<Option<Outcome>, TrainError> {
        let (images, labels) = self.tensors(batch);
        let logits = self.network.forward(images);
        if self.kind == TrainDevice::Gpu {
            return self.queue(logits, labels, at);
        }
        let values = logits.to_data();
        let loss = self.loss.forward(logits, labels);
        let value = loss.clone().into_scalar::<f32>();
        let classes = self.network.graph().classes();
        // Burn gives f32 for f32.
        let rows = values
            .as_slice::<f32>()
            .unwrap_or(&[])
            .chunks_exact(classes);
        let correct = rows
            .zip(&batch.labels)
            .filter(|(row, label)| largest(row) == **label as usize)
            .count();
        if value.is_finite() {
            self.learn(loss, at.lr);
        }
        let images = batch.labels.len();
        Ok(Some(Outcome::of_batch(value.into(), images, correct)))
    }

    fn settle(&mut self) -> Result<Option<Outcome>, TrainError> {
        let Some(untold) = self.untold.take() else {
            return Ok(None);
        };
        self.told = true;
        let values = Tensor::cat(vec![untold.sums, untold.loss], 0);
        let values = values.try_into_data().map_err(TrainError::device)?;
        let &[loss_sum, correct, loss] = values.as_slice::<f32>().unwrap_or(&[]) else {
            return Err(TrainError::Device {
                reason: "it gave no losses".into(),
            });
        };
        Ok(Some(Outcome {
            loss: loss.into(),
            loss_sum: loss_sum.into(),
            images: untold.images,
            // A float holds the number of far more images than a few steps have.
            correct: correct as usize,
        }))
    }

    fn trained(&self) -> Result<Trained, TrainError> {
        Ok(Trained::Float(self.model()?))
    }

    fn state(&self) -> Result<State, TrainError> {
        Ok(State {
            model: self.model()?,
            values: self.sgd.state(&self.network),
            observations: None,
        })
    }
}

/// Steps to be timed.
pub(crate) struct StepBench {
    trainee: FloatTrainee,
    lr: f64,
}

impl StepBench {
    pub(crate) fn new(
        recipe: &Recipe,
        model: &Model,
        options: TrainOptions,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            trainee: FloatTrainee::new(recipe, model, BTreeMap::new(), options)?,
            // Noise teaches nothing; whatever the recipe, the network stays finite.
            lr: 1e-6 * recipe.lr,
        })
    }

    /// Waits for the end of so many passes from the images to the logits.
    pub(crate) fn forward(&mut self, batch: &Batch, times: usize) -> Result<(), TrainError> {
        for _ in 0..times {
            let (images, _) = self.trainee.tensors(batch);
            drop(self.trainee.network.forward(images));
        }
        self.trainee.device.sync().map_err(TrainError::device)
    }

    /// Waits for the end of so many steps.
    pub(crate) fn steps(&mut self, batch: &Batch, times: usize) -> Result<(), TrainError> {
        for done in 0..times {
            self.trainee.step(batch, At { done, lr: self.lr })?;
        }
        self.trainee.settle()?;
        self.trainee.device.sync().map_err(TrainError::device)
    }
}
