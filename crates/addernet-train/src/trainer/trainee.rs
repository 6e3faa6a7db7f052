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

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// The batch's mean loss.
    pub(super) loss: f64,
    /// Its images that were classified correctly.
    pub(super) correct: usize,
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

    /// Learns from a batch. A loss that is not finite is an outcome like any other, and leaves the network as it was.
    fn step(&mut self, batch: &Batch, at: At) -> Result<Outcome, TrainError>;

    /// The network as it is now.
    fn trained(&self) -> Result<Trained, TrainError>;

    /// Its state as it is now.
    fn state(&self) -> Result<State, TrainError>;
}
