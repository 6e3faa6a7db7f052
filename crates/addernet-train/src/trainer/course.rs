//! The loop over epochs and steps, with its files, whatever it is that learns.

use std::time::Instant;

use addernet_data::{Batch, DataError, Transform, batches, shuffled};
use addernet_graph::{Executor, GraphError, ModelInfo, Preprocessing, file::ModelFile};
use addernet_quant::{QuantError, Simulator, reestimate_float_bn, store};

use super::trainee::{At, Outcome, State, Trained, Trainee};
use super::{TrainOptions, TrainingData, prefetch};
use crate::checkpoint::{Checkpoint, Position};
use crate::device::TrainDevice;
use crate::diagnosis;
use crate::error::TrainError;
use crate::evaluate::{Score, evaluate};
use crate::folder::RunFolder;
use crate::progress::{EpochReport, StepReport, TrainListener};

/// Where a run is, and where it leaves its files.
pub(super) struct Course {
    pub(super) folder: RunFolder,
    pub(super) position: Position,
    pub(super) options: TrainOptions,
    /// The last loss that is known, NaN before the first.
    pub(super) loss: f64,
}

/// What stays the same during a call.
#[derive(Clone, Copy)]
struct Context<'c> {
    data: TrainingData<'c>,
    /// Places of the training images.
    images: &'c [usize],
    /// Steps per epoch.
    steps: usize,
    listener: &'c dyn TrainListener,
}

impl Course {
    /// Trains to the end of the recipe.
    pub(super) fn run(
        &mut self,
        trainee: &mut dyn Trainee,
        data: TrainingData<'_>,
        images: &[usize],
        listener: &dyn TrainListener,
    ) -> Result<Trained, TrainError> {
        let context = Context {
            data,
            images,
            steps: steps(images.len(), self.position.recipe.batch),
            listener,
        };
        let steps = context.steps;
        let epochs = self.position.recipe.epochs;
        if self.position.step > steps {
            return Err(TrainError::Run {
                path: self.folder.checkpoint(),
                reason: format!(
                    "is at step {} of {steps}: it was made with other images",
                    self.position.step
                ),
            });
        }
        self.save(trainee, listener)?;
        self.folder.describe(&self.position, listener)?;
        self.folder.report(&self.position.history, listener)?;
        let done = self.position.epoch * steps + self.position.step;
        listener.begin(done, epochs * steps);
        while self.position.epoch < epochs {
            self.epoch(trainee, context)?;
        }
        let trained = self.trained(trainee, context, epochs.saturating_sub(1))?;
        // A run that was killed just before its last file may be resumed for it.
        listener.write(&self.folder.model(), &model_file(&trained, data)?)?;
        Ok(trained)
    }

    /// The rest of the epoch, its evaluation, its files.
    fn epoch(&mut self, trainee: &mut dyn Trainee, context: Context<'_>) -> Result<(), TrainError> {
        let Context {
            data,
            images,
            steps,
            ..
        } = context;
        let epoch = self.position.epoch;
        let recipe = self.position.recipe.clone();
        let order = shuffled(images, recipe.seed, epoch as u64);
        let rest = &order[(self.position.step * recipe.batch).min(order.len())..];
        let transform = Transform {
            augmentation: Some(recipe.augmentation(epoch)),
            ..data.transform.clone()
        };
        let rest_steps = steps - self.position.step;
        let batches = batches(data.train, rest, recipe.batch, &transform)?.take(rest_steps);
        match self.options.device {
            TrainDevice::Cpu => self.steps(trainee, context, &mut { batches })?,
            TrainDevice::Gpu => {
                prefetch::ahead(batches, |batches| self.steps(trainee, context, batches))?;
            }
        }
        self.finish_epoch(trainee, context)
    }

    /// A step for each batch.
    fn steps(
        &mut self,
        trainee: &mut dyn Trainee,
        context: Context<'_>,
        batches: &mut dyn Iterator<Item = Result<Batch, DataError>>,
    ) -> Result<(), TrainError> {
        let Context {
            steps, listener, ..
        } = context;
        let epoch = self.position.epoch;
        let recipe = self.position.recipe.clone();
        let mut saved = Instant::now();
        let mut start = Instant::now();
        for batch in batches {
            let batch = batch?;
            let lr = recipe.learning_rate(epoch, self.position.step, steps);
            let done = epoch * steps + self.position.step;
            let outcome = trainee.step(&batch, At { done, lr })?;
            self.note(trainee, outcome)?;
            self.position.step += 1;
            listener.step(&StepReport {
                epoch,
                step: self.position.step,
                steps,
                loss: self.loss,
                lr,
            });
            if saved.elapsed() >= self.options.checkpoint_every {
                let outcome = trainee.settle()?;
                self.note(trainee, outcome)?;
                self.position.seconds += start.elapsed().as_secs_f64();
                self.save(trainee, listener)?;
                (saved, start) = (Instant::now(), Instant::now());
            }
        }
        let outcome = trainee.settle()?;
        self.note(trainee, outcome)?;
        self.position.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Adds what steps came to.
    fn note(&mut self, trainee: &dyn Trainee, outcome: Option<Outcome>) -> Result<(), TrainError> {
        let Some(outcome) = outcome else {
            return Ok(());
        };
        if !outcome.is_finite() {
            return Err(self.failed(trainee, format!("the loss is {}", outcome.loss)));
        }
        self.position.loss_sum += outcome.loss_sum;
        self.position.correct += outcome.correct;
        self.position.images += outcome.images;
        self.loss = outcome.loss;
        Ok(())
    }

    fn finish_epoch(
        &mut self,
        trainee: &dyn Trainee,
        context: Context<'_>,
    ) -> Result<(), TrainError> {
        let Context {
            data,
            steps,
            listener,
            ..
        } = context;
        let trained = self.trained(trainee, context, self.position.epoch)?;
        let recipe = &self.position.recipe;
        let epoch = self.position.epoch + 1;
        let looked_at = match self.options.evaluate_every {
            0 => false,
            every => epoch.is_multiple_of(every),
        };
        let score = match looked_at || epoch == recipe.epochs {
            true => self.score(&trained, data)?,
            false => None,
        };
        let images = self.position.images.max(1) as f64;
        let report = EpochReport {
            epoch,
            lr: recipe.learning_rate(epoch - 1, steps.saturating_sub(1), steps),
            train_loss: self.position.loss_sum / images,
            train_top1: self.position.correct as f64 / images,
            test_loss: score.map(|s| s.loss),
            test_top1: score.map(|s| s.top1),
            seconds: self.position.seconds,
        };
        let stalled = self.stalled(trainee, &report);
        self.position.next_epoch(report.clone());
        self.save(trainee, listener)?;
        listener.write(&self.folder.model(), &model_file(&trained, data)?)?;
        self.folder.report(&self.position.history, listener)?;
        listener.epoch(&report);
        match stalled {
            Some(what) => Err(TrainError::Failed {
                epoch,
                step: steps,
                what,
                cause: diagnosis::stalled(trainee.graph(), &self.position.recipe),
            }),
            None => Ok(()),
        }
    }

    /// The network as it is now, BN's statistics computed anew if the recipe says so, on images of epoch `epoch` (from
    /// 0) as it saw them.
    fn trained(
        &self,
        trainee: &dyn Trainee,
        context: Context<'_>,
        epoch: usize,
    ) -> Result<Trained, TrainError> {
        let trained = self.finite(trainee, trainee.trained())?;
        let recipe = &self.position.recipe;
        let (Trained::Float(model), true) = (&trained, recipe.bn_images > 0) else {
            return Ok(trained);
        };
        let Context { data, images, .. } = context;
        let order = shuffled(images, recipe.seed, epoch as u64);
        let mut count = recipe.bn_images.min(order.len());
        if count % recipe.batch == 1 {
            count -= 1; // A single image may have a single value per channel.
        }
        let transform = Transform {
            augmentation: Some(recipe.augmentation(epoch)),
            ..data.transform.clone()
        };
        let executor = Executor::new(model, self.options.kernel)?;
        let batches = batches(data.train, &order[..count], recipe.batch, &transform)?;
        let batches = batches.map(|batch| batch.map(|batch| batch.images));
        Ok(Trained::Float(reestimate_float_bn(&executor, batches)?))
    }

    /// Loss and accuracy on the test images, if there are any; a quantized network is simulated.
    fn score(
        &self,
        trained: &Trained,
        data: TrainingData<'_>,
    ) -> Result<Option<Score>, TrainError> {
        let Some(test) = data.test else {
            return Ok(None);
        };
        let kernel = self.options.kernel;
        let score = match trained {
            Trained::Float(model) => {
                let executor = Executor::new(model, kernel)?;
                evaluate(test, data.transform, |images| Ok(executor.run(images)?))
            }
            Trained::Quantized(quantized) => {
                let simulator = Simulator::new(quantized, kernel)?;
                evaluate(test, data.transform, |images| Ok(simulator.run(images)?))
            }
        };
        score.map(Some)
    }

    /// What says that the loss does not fall, where it can be compared with that of guessing.
    fn stalled(&self, trainee: &dyn Trainee, report: &EpochReport) -> Option<String> {
        /// A network that has learned anything is below this share of the loss of guessing.
        const SHARE: f64 = 0.97;
        let after = self.position.recipe.stall_epochs;
        let guessing = (trainee.graph().classes() as f64).ln();
        let past = self.position.history.iter().chain([report]);
        let best = past.map(|e| e.train_loss).fold(f64::INFINITY, f64::min);
        let comparable = self.position.recipe.qat.is_none();
        (comparable && after > 0 && report.epoch >= after && best > SHARE * guessing).then(|| {
            format!(
                "the loss is still {:.3} after {} epochs, guessing gives {guessing:.3}",
                report.train_loss, report.epoch
            )
        })
    }

    /// What is no longer finite is the run's failure, with its likely cause.
    fn finite<T>(
        &self,
        trainee: &dyn Trainee,
        result: Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        result.map_err(|error| match error {
            TrainError::Graph(GraphError::NonFinite { parameter, .. })
            | TrainError::Quant(QuantError::Graph(GraphError::NonFinite { parameter, .. })) => {
                self.failed(trainee, format!("`{parameter}` is no longer finite"))
            }
            other => other,
        })
    }

    fn failed(&self, trainee: &dyn Trainee, what: String) -> TrainError {
        TrainError::Failed {
            epoch: self.position.epoch + 1,
            step: self.position.step + 1,
            what,
            cause: diagnosis::diverged(trainee.graph(), &self.position.recipe),
        }
    }

    fn save(&self, trainee: &dyn Trainee, listener: &dyn TrainListener) -> Result<(), TrainError> {
        let State {
            model,
            values,
            observations,
        } = self.finite(trainee, trainee.state())?;
        let checkpoint = Checkpoint {
            position: self.position.clone(),
            model,
            values,
            observations,
        };
        Ok(listener.write(&self.folder.checkpoint(), &checkpoint.to_bytes()?)?)
    }
}

/// The bytes of the model file: with the normalisation and the names of the classes.
fn model_file(trained: &Trained, data: TrainingData<'_>) -> Result<Vec<u8>, TrainError> {
    let file = match trained {
        Trained::Float(model) => ModelFile::from(model.clone().with_info(info(data))?),
        // Its teacher had them.
        Trained::Quantized(quantized) => store::to_file(quantized)?,
    };
    Ok(file.to_bytes()?)
}

/// What accompanies a model trained on these images.
pub(super) fn info(data: TrainingData<'_>) -> ModelInfo {
    let normalization = &data.transform.normalization;
    ModelInfo {
        preprocessing: Some(Preprocessing {
            mean: normalization.mean().to_vec(),
            std: normalization.std().to_vec(),
        }),
        class_names: data.train.class_names().to_vec(),
    }
}

/// Steps per epoch: the last batch may be smaller, but not a single image, of which BN has no statistics.
pub(super) fn steps(images: usize, batch: usize) -> usize {
    images / batch + usize::from(images % batch > 1)
}
