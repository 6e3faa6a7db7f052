//! Quantization-aware training: the learner of `addernet-quant` on the whole training set.

use std::collections::BTreeMap;

use addernet_data::{Batch, DataError, batches, mixup, shuffled};
use addernet_graph::{Executor, Graph, Model};
use addernet_kernels::{AdderKernelF32, AdderKernelU8};
use addernet_quant::{
    Learner, Observations, PUBLISHED_OUTLIER_QUANTILE, Provenance, Reconstruction, calibrate,
};
use ndarray::Array4;

use super::TrainingData;
use super::trainee::{At, Outcome, State, Trained, Trainee};
use crate::error::TrainError;
use crate::progress::TrainListener;
use crate::recipe::{Qat, Recipe};

/// The method's name in the files that a run makes.
const METHOD: &str = "quantization-aware-training";
/// Images per batch of calibration, by which the outliers' quantile is taken.
const CALIBRATION_BATCH: usize = 128;
/// Images that scales are searched on and BN's statistics taken from.
const SEARCH_IMAGES: usize = 256;

/// Where the training of a quantized network starts, or goes on.
pub(super) struct QuantizedStart {
    /// The float network.
    pub(super) teacher: Model,
    /// The learner's values, if it has begun.
    pub(super) values: BTreeMap<String, Vec<f32>>,
    /// What calibration saw, if there was one.
    pub(super) observations: Option<Observations>,
}

impl QuantizedStart {
    /// Takes up where a trainee is.
    pub(super) fn update(&mut self, state: State) {
        self.teacher = state.model;
        self.values = state.values;
        self.observations = state.observations;
    }
}

/// A learner with what it takes to make a model of it.
pub(super) struct QuantizedTrainee<'m> {
    learner: Learner<'m>,
    teacher: &'m Model,
    observations: Observations,
    settings: Reconstruction,
    search: Array4<f32>,
    seed: u64,
}

impl<'m> QuantizedTrainee<'m> {
    /// Calibrates the network of `executor` and searches its scales, or takes up the learner of `start`. `images` are
    /// the places of the training images.
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, with what a run consists of"
    )]
    pub(super) fn new(
        executor: &'m Executor<'m>,
        start: &QuantizedStart,
        recipe: &Recipe,
        qat: &Qat,
        data: TrainingData<'_>,
        images: &[usize],
        steps: usize,
        listener: &dyn TrainListener,
    ) -> Result<Self, TrainError> {
        let settings = qat.settings(steps);
        let kernel_u8 = u8_kernel(executor.kernel())?;
        let order = shuffled(images, recipe.seed, 0);
        let calibration = &order[..qat.calibration_images.min(order.len())];
        let search = stack(data, &calibration[..SEARCH_IMAGES.min(calibration.len())])?;
        let (observations, learner) = match &start.observations {
            Some(observations) => {
                let learner = Learner::restore(
                    executor,
                    observations,
                    &settings,
                    kernel_u8,
                    start.values.clone(),
                )?;
                (observations.clone(), learner)
            }
            None => {
                listener.prepare("calibrating");
                let batches = batches(data.train, calibration, CALIBRATION_BATCH, data.transform)?
                    .map(|batch| batch.map(|batch| batch.images));
                let observations = calibrate(executor, batches, PUBLISHED_OUTLIER_QUANTILE)?;
                listener.prepare("searching scales");
                let learner =
                    Learner::search(executor, &observations, &settings, &search, kernel_u8, &())?;
                (observations, learner)
            }
        };
        Ok(Self {
            learner,
            teacher: executor.model(),
            observations,
            settings,
            search,
            seed: recipe.seed,
        })
    }
}

/// The variant of the same instruction set on codes; the best one if it has none.
fn u8_kernel(kernel: &dyn AdderKernelF32) -> Result<&'static dyn AdderKernelU8, TrainError> {
    let of_name = addernet_kernels::select_u8(Some(kernel.name()));
    Ok(of_name.or_else(|_| addernet_kernels::select_u8(None))?)
}

/// Images as one batch.
fn stack(data: TrainingData<'_>, images: &[usize]) -> Result<Array4<f32>, DataError> {
    let mut all = batches(data.train, images, images.len(), data.transform)?;
    match all.next() {
        Some(batch) => Ok(batch?.images),
        None => Ok(Array4::zeros((0, 0, 0, 0))),
    }
}

impl Trainee for QuantizedTrainee<'_> {
    fn graph(&self) -> &Graph {
        self.teacher.graph()
    }

    fn step(&mut self, batch: &Batch, at: At) -> Result<Option<Outcome>, TrainError> {
        let (labels, share) = (&batch.labels, at.lr as f32);
        let mixup_share = self.settings.tuning.mixup;
        let learned = match mixup_share > 0.0 {
            true => {
                let mut mixed = batch.clone();
                mixup(&mut mixed, mixup_share.into(), self.seed, at.done as u64);
                self.learner.step(&mixed.images, labels, at.done, share)?
            }
            false => self.learner.step(&batch.images, labels, at.done, share)?,
        };
        Ok(Some(Outcome::of_batch(
            learned.loss,
            labels.len(),
            learned.correct,
        )))
    }

    fn trained(&self) -> Result<Trained, TrainError> {
        let provenance = Provenance {
            method: METHOD.to_owned(),
            weight_bits: self.settings.weight_bits,
            activation_bits: self.settings.activation_bits,
            groups: 1,
            weight_clamp: true,
            outlier_quantile: self.observations.outlier_quantile,
            calibration_images: self.observations.images,
            bn_images: 0,
            seed: self.seed,
            reconstruction: Some(self.settings.clone()),
        };
        let quantized = self
            .learner
            .finish(&self.observations, &self.search, provenance)?;
        Ok(Trained::Quantized(quantized))
    }

    fn state(&self) -> Result<State, TrainError> {
        Ok(State {
            model: self.teacher.clone(),
            values: self.learner.state(),
            observations: Some(self.observations.clone()),
        })
    }
}
