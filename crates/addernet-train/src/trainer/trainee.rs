//! What a run trains.

use addernet_data::Batch;
use addernet_graph::{Graph, Model};
use addernet_quant::{Observations, QuantizedModel};
use std::collections::BTreeMap;

use crate::error::TrainError;

/// A trained network.
#[derive(Clone, Debug)]
pub enum Trained {
    /// In floating point.
    Float(Model),
    /// With its adder layers in integers, by a recipe with a [`Qat`](crate::Qat) section.
    Quantized(QuantizedModel),
}

impl Trained {
    /// The network in floating point: of a quantized one, what its integers stand for.
    pub fn model(&self) -> &Model {
        match self {
            Trained::Float(model) => model,
            Trained::Quantized(quantized) => quantized.model(),
        }
    }
}

/// When a step is.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    /// Steps done of the whole run.
    pub(super) done: usize,
    /// Learning rate.
    pub(super) lr: f64,
}

/// What steps came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// The mean loss of the last step's batch.
    pub(super) loss: f64,
    /// The losses of all images, added up.
    pub(super) loss_sum: f64,
    /// The images.
    pub(super) images: usize,
    /// Those that were classified correctly.
    pub(super) correct: usize,
}

impl Outcome {
    /// Of one batch of so many images with this mean loss.
    pub(super) fn of_batch(loss: f64, images: usize, correct: usize) -> Self {
        Self {
            loss,
            loss_sum: loss * images as f64,
            images,
            correct,
        }
    }

    /// Whether no loss was NaN or infinite.
    pub(super) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.loss_sum.is_finite()
    }
}

/// Everything of a trainee that a checkpoint needs.
pub(super) struct State {
    /// The float network: as it is now, or the teacher.
    pub(super) model: Model,
    /// What else it takes to go on: the optimizer's velocities, or the learner's values, by name.
    pub(super) values: BTreeMap<String, Vec<f32>>,
    /// What calibration saw, if the trainee is quantized.
    pub(super) observations: Option<Observations>,
}

/// A network that learns.
pub(super) trait Trainee {
    /// Its structure.
    fn graph(&self) -> &Graph;

    /// Learns from a batch. A loss that is not finite is an outcome like any other. `None` if what the step came to is not
    /// known yet: a later one, or [`settle`](Self::settle), tells it.
    fn step(&mut self, batch: &Batch, at: At) -> Result<Option<Outcome>, TrainError>;

    /// What those steps came to that have not told it.
    fn settle(&mut self) -> Result<Option<Outcome>, TrainError> {
        Ok(None)
    }

    /// The network as it is now.
    fn trained(&self) -> Result<Trained, TrainError>;

    /// Its state as it is now.
    fn state(&self) -> Result<State, TrainError>;
}
