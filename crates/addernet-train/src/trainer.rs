//! The training loop.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use addernet_data::{Batch, Dataset, Transform, batches, shuffled};
use addernet_graph::{FeatureShape, GraphError, Model, file::ModelFile};
use addernet_kernels::AdderKernelF32;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::checkpoint::{Checkpoint, Position};
use crate::diagnosis;
use crate::error::TrainError;
use crate::evaluate::{evaluate, largest};
use crate::folder::RunFolder;
use crate::network::{Network, NetworkOptions};
use crate::op::default_kernel;
use crate::progress::{EpochReport, StepReport, TrainListener};
use crate::recipe::Recipe;
use crate::sgd::Sgd;

/// What a run learns from.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'d> {
    /// The images to learn.
    pub train: &'d Dataset,
    /// The images to measure the accuracy on; they choose nothing.
    pub test: Option<&'d Dataset>,
    /// What is done to each image; augmentation comes from the recipe.
    pub transform: &'d Transform,
}

/// What decides how a run runs, but not what it computes.
#[derive(Clone, Copy)]
pub struct TrainOptions {
    /// The test images are looked at after every so many epochs, and after the last; 0: after the last.
    pub evaluate_every: usize,
    /// At most so much time passes between two checkpoints (there is one after every epoch, too).
    pub checkpoint_every: Duration,
    /// The variant of the operator.
    pub kernel: &'static dyn AdderKernelF32,
}

impl Default for TrainOptions {
    /// Every epoch, two minutes, the best variant for this CPU.
    fn default() -> Self {
        Self {
            evaluate_every: 1,
            checkpoint_every: Duration::from_secs(120),
            kernel: default_kernel(),
        }
    }
}

/// A training run.
///
/// With one thread, a run that is stopped at any moment and resumed from its folder gives the same network, bit for bit,
/// as one that is not.
///
/// ```
/// use addernet_data::{Dataset, DatasetKind, OpenOptions, Split, Transform};
/// use addernet_graph::{FeatureShape, zoo::Architecture};
/// use addernet_train::{Recipe, Run, RunFolder, TrainOptions, TrainingData, initial_model};
///
/// let settings = ["architecture=lenet5-bn", "train-images=40", "epochs=1", "batch=20"];
/// let recipe = Recipe::load("shapes", &settings)?;
/// let options = OpenOptions { shapes_len: Some(40), ..OpenOptions::default() };
/// let train = Dataset::open(DatasetKind::Shapes, None, Split::Train, &options)?;
/// let data = TrainingData {
///     train: &train,
///     test: None,
///     transform: &Transform::eval(DatasetKind::Shapes),
/// };
/// let graph = recipe.architecture.graph(FeatureShape::new(3, 32, 32), 10)?;
/// let model = initial_model(graph, recipe.seed)?;
///
/// # let scratch = tempfile::tempdir().unwrap();
/// # let path = scratch.path().join("run");
/// let folder = RunFolder::create(&path)?;
/// let mut run = Run::start(folder, recipe, &model, None, TrainOptions::default())?;
/// let trained = run.train(data, &())?;
/// assert_eq!(run.history().len(), 1);
/// # Ok::<(), addernet_train::TrainError>(())
/// ```
pub struct Run {
    folder: RunFolder,
    position: Position,
    network: Network,
    sgd: Sgd,
    options: TrainOptions,
    device: Device,
}

impl Run {
    /// A new run from the parameters of `model`. `data_dir` is remembered for [`resume`](Self::resume).
    ///
    /// # Errors
    /// If the recipe is not valid or the graph cannot be trained.
    pub fn start(
        folder: RunFolder,
        recipe: Recipe,
        model: &Model,
        data_dir: Option<PathBuf>,
        options: TrainOptions,
    ) -> Result<Self, TrainError> {
        recipe.check(model.graph().name())?;
        let checkpoint = Checkpoint {
            position: Position::start(recipe, data_dir),
            model: model.clone(),
            velocities: Default::default(),
        };
        Self::from_checkpoint(folder, checkpoint, options)
    }

    /// The run in `folder`, where its last checkpoint is.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is not one.
    pub fn resume(folder: RunFolder, options: TrainOptions) -> Result<Self, TrainError> {
        folder.sweep();
        let checkpoint = Checkpoint::read(&folder.checkpoint())?;
        Self::from_checkpoint(folder, checkpoint, options)
    }

    fn from_checkpoint(
        folder: RunFolder,
        checkpoint: Checkpoint,
        options: TrainOptions,
    ) -> Result<Self, TrainError> {
        let Checkpoint {
            position,
            model,
            velocities,
        } = checkpoint;
        let recipe = &position.recipe;
        let device = Device::flex().autodiff();
        let network_options = NetworkOptions {
            eta: Some(recipe.eta),
            bn_momentum: recipe.bn_momentum,
            kernel: options.kernel,
        };
        let network = Network::from_model(&model, network_options, &device)?;
        let mut sgd = Sgd::new(recipe.momentum, recipe.weight_decay);
        sgd.restore(&network, velocities, &device.clone().inner());
        Ok(Self {
            folder,
            position,
            network,
            sgd,
            options,
            device,
        })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.position.recipe
    }

    /// The data set's folder that the run was started with.
    pub fn data_dir(&self) -> Option<&std::path::Path> {
        self.position.data_dir.as_deref()
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The epochs done.
    pub fn history(&self) -> &[EpochReport] {
        &self.position.history
    }

    /// The network as it is now.
    ///
    /// # Errors
    /// If a parameter is not finite.
    pub fn model(&self) -> Result<Model, TrainError> {
        self.network.to_model()
    }

    /// Trains to the end of the recipe and returns the network.
    ///
    /// # Errors
    /// [`TrainError::Images`] and [`TrainError::Recipe`] if the data do not fit, [`TrainError::Failed`] if the loss
    /// is no longer finite or does not fall, and if a file cannot be written. What the last checkpoint holds is never lost.
    pub fn train(
        &mut self,
        data: TrainingData<'_>,
        listener: &dyn TrainListener,
    ) -> Result<Model, TrainError> {
        let images = self.check(data)?;
        let result = self.train_on(data, &images, listener);
        listener.end();
        result
    }

    /// Checks the data and gives the places of the training images.
    fn check(&self, data: TrainingData<'_>) -> Result<Vec<usize>, TrainError> {
        let graph = self.network.graph();
        let recipe = &self.position.recipe;
        for dataset in [Some(data.train), data.test].into_iter().flatten() {
            let [height, width, channels] = data.transform.output_shape(dataset.image_shape())?;
            let shape = FeatureShape::new(channels, height, width);
            if shape != graph.input_shape() || dataset.num_classes() != graph.classes() {
                return Err(TrainError::Images {
                    graph: graph.name().to_owned(),
                    expected: format!("{} in {} classes", graph.input_shape(), graph.classes()),
                    images: format!("{shape} in {} classes", dataset.num_classes()),
                });
            }
        }
        let available = data.train.len();
        let images = recipe.train_images.unwrap_or(available);
        if images > available || images < 2 {
            return Err(TrainError::Recipe {
                origin: recipe.dataset.to_string(),
                reason: format!(
                    "asks for {images} training images; there are {available}, and at least 2 are needed"
                ),
            });
        }
        Ok((0..images).collect())
    }

    fn train_on(
        &mut self,
        data: TrainingData<'_>,
        images: &[usize],
        listener: &dyn TrainListener,
    ) -> Result<Model, TrainError> {
        let steps = steps(images.len(), self.position.recipe.batch);
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
        self.save(listener)?;
        self.folder.describe(&self.position, listener)?;
        self.folder.report(&self.position.history, listener)?;
        let done = self.position.epoch * steps + self.position.step;
        listener.begin(done, epochs * steps);
        while self.position.epoch < epochs {
            self.epoch(data, images, steps, listener)?;
        }
        let model = self.network.to_model()?;
        // A run that was killed just before its last file may be resumed for it.
        listener.write(&self.folder.model(), &self.model_file(&model, data)?)?;
        Ok(model)
    }

    /// The rest of the epoch, its evaluation, its files.
    fn epoch(
        &mut self,
        data: TrainingData<'_>,
        images: &[usize],
        steps: usize,
        listener: &dyn TrainListener,
    ) -> Result<(), TrainError> {
        let epoch = self.position.epoch;
        let recipe = self.position.recipe.clone();
        let loss = cross_entropy(&recipe, &self.device);
        let order = shuffled(images, recipe.seed, epoch as u64);
        let rest = &order[(self.position.step * recipe.batch).min(order.len())..];
        let transform = Transform {
            augmentation: Some(recipe.augmentation(epoch)),
            ..data.transform.clone()
        };
        let mut saved = Instant::now();
        let mut start = Instant::now();
        let rest_steps = steps - self.position.step;
        for batch in batches(data.train, rest, recipe.batch, &transform)?.take(rest_steps) {
            let lr = recipe.learning_rate(epoch, self.position.step, steps);
            let value = self.step(&batch?, lr, &loss)?;
            self.position.step += 1;
            listener.step(&StepReport {
                epoch,
                step: self.position.step,
                steps,
                loss: value,
                lr,
            });
            if saved.elapsed() >= self.options.checkpoint_every {
                self.position.seconds += start.elapsed().as_secs_f64();
                self.save(listener)?;
                (saved, start) = (Instant::now(), Instant::now());
            }
        }
        self.position.seconds += start.elapsed().as_secs_f64();
        self.finish_epoch(data, steps, listener)
    }

    fn finish_epoch(
        &mut self,
        data: TrainingData<'_>,
        steps: usize,
        listener: &dyn TrainListener,
    ) -> Result<(), TrainError> {
        let model = self.finite_model()?;
        let recipe = &self.position.recipe;
        let epoch = self.position.epoch + 1;
        let looked_at = match self.options.evaluate_every {
            0 => false,
            every => epoch.is_multiple_of(every),
        };
        let score = match data.test {
            Some(test) if looked_at || epoch == recipe.epochs => {
                Some(evaluate(&model, test, data.transform, self.options.kernel)?)
            }
            _ => None,
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
        let stalled = self.stalled(&report);
        self.position.next_epoch(report.clone());
        self.save(listener)?;
        listener.write(&self.folder.model(), &self.model_file(&model, data)?)?;
        self.folder.report(&self.position.history, listener)?;
        listener.epoch(&report);
        match stalled {
            Some(what) => Err(TrainError::Failed {
                epoch,
                step: steps,
                what,
                cause: diagnosis::stalled(self.network.graph(), &self.position.recipe),
            }),
            None => Ok(()),
        }
    }

    /// One step; gives the batch's loss.
    fn step(&mut self, batch: &Batch, lr: f64, loss: &CrossEntropyLoss) -> Result<f64, TrainError> {
        let (images, labels) = self.tensors(batch);
        let logits = self.network.forward(images);
        let values = logits.to_data();
        let loss = loss.forward(logits, labels);
        let value = loss.clone().into_scalar::<f32>();
        if !value.is_finite() {
            let what = format!("the loss is {value}");
            return Err(self.failed(what));
        }
        let count = batch.labels.len();
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
        let grads = GradientsParams::from_grads(loss.backward(), &self.network);
        self.network = self.sgd.step(lr, self.network.clone(), grads);
        self.position.loss_sum += f64::from(value) * count as f64;
        self.position.correct += correct;
        self.position.images += count;
        Ok(value.into())
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

    fn stalled(&self, report: &EpochReport) -> Option<String> {
        /// A network that has learned anything is below this share of the loss of guessing.
        const SHARE: f64 = 0.97;
        let after = self.position.recipe.stall_epochs;
        let guessing = (self.network.graph().classes() as f64).ln();
        let past = self.position.history.iter().chain([report]);
        let best = past.map(|e| e.train_loss).fold(f64::INFINITY, f64::min);
        (after > 0 && report.epoch >= after && best > SHARE * guessing).then(|| {
            format!(
                "the loss is still {:.3} after {} epochs, guessing gives {guessing:.3}",
                report.train_loss, report.epoch
            )
        })
    }

    /// The network, if it is still one.
    fn finite_model(&self) -> Result<Model, TrainError> {
        self.network.to_model().map_err(|error| match error {
            TrainError::Graph(GraphError::NonFinite { parameter, .. }) => {
                self.failed(format!("`{parameter}` is no longer finite"))
            }
            other => other,
        })
    }

    fn failed(&self, what: String) -> TrainError {
        TrainError::Failed {
            epoch: self.position.epoch + 1,
            step: self.position.step + 1,
            what,
            cause: diagnosis::diverged(self.network.graph(), &self.position.recipe),
        }
    }

    fn save(&self, listener: &dyn TrainListener) -> Result<(), TrainError> {
        let checkpoint = Checkpoint {
            position: self.position.clone(),
            model: self.finite_model()?,
            velocities: self.sgd.state(&self.network),
        };
        Ok(listener.write(&self.folder.checkpoint(), &checkpoint.to_bytes()?)?)
    }

    /// The bytes of the model file: with the normalisation and the names of the classes.
    fn model_file(&self, model: &Model, data: TrainingData<'_>) -> Result<Vec<u8>, TrainError> {
        let normalization = &data.transform.normalization;
        let info = addernet_graph::ModelInfo {
            preprocessing: Some(addernet_graph::Preprocessing {
                mean: normalization.mean().to_vec(),
                std: normalization.std().to_vec(),
            }),
            class_names: data.train.class_names().to_vec(),
        };
        Ok(ModelFile::from(model.clone().with_info(info)?).to_bytes()?)
    }
}

/// Steps per epoch: the last batch may be smaller, but not a single image, of which BN has no statistics.
fn steps(images: usize, batch: usize) -> usize {
    images / batch + usize::from(images % batch > 1)
}

fn cross_entropy(recipe: &Recipe, device: &Device) -> CrossEntropyLoss {
    let smoothing = (recipe.label_smoothing > 0.0).then_some(recipe.label_smoothing);
    CrossEntropyLossConfig::new()
        .with_smoothing(smoothing)
        .init(device)
}

#[cfg(test)]
mod tests;
