//! Training runs.

mod course;
mod float;
mod prefetch;
mod quantized;
mod trainee;

use std::path::PathBuf;
use std::time::Duration;

use addernet_data::{Dataset, Transform};
use addernet_graph::{Executor, FeatureShape, Graph, Model};
use addernet_kernels::AdderKernelF32;
use addernet_quant::round_ordinary;

use crate::checkpoint::{Checkpoint, Position};
use crate::device::TrainDevice;
use crate::error::TrainError;
use crate::folder::RunFolder;
use crate::op::default_kernel;
use crate::progress::{EpochReport, TrainListener};
use crate::recipe::Recipe;
use course::Course;
use float::FloatTrainee;
pub(crate) use float::StepBench;
use quantized::{QuantizedStart, QuantizedTrainee};
pub use trainee::Trained;
use trainee::Trainee;

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
    /// The variant of the operator on the CPU.
    pub kernel: &'static dyn AdderKernelF32,
    /// Where training steps in floating point run. Everything else, quantization-aware training and evaluation too, runs on
    /// the CPU.
    pub device: TrainDevice,
}

impl Default for TrainOptions {
    /// Every epoch, two minutes, the best variant for this CPU, the CPU.
    fn default() -> Self {
        Self {
            evaluate_every: 1,
            checkpoint_every: Duration::from_secs(120),
            kernel: default_kernel(),
            device: TrainDevice::Cpu,
        }
    }
}

/// A training run.
///
/// On the CPU with one thread, a run that is stopped at any moment and resumed from its folder gives the same network, bit for bit,
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
    course: Course,
    subject: Subject,
}

/// What is trained.
enum Subject {
    Float(Box<FloatTrainee>),
    Quantized(Box<QuantizedStart>),
}

impl Run {
    /// A new run from the parameters of `model`; if the recipe is for quantization-aware training, `model` is what is
    /// quantized, and the teacher. `data_dir` is remembered for [`resume`](Self::resume).
    ///
    /// # Errors
    /// If the recipe is not valid, the graph cannot be trained, or the device is not there.
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
            values: Default::default(),
            observations: None,
        };
        Self::from_checkpoint(folder, checkpoint, options)
    }

    /// The run in `folder`, where its last checkpoint is.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or is not one, or the device is not there.
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
            values,
            observations,
        } = checkpoint;
        let subject = match position.recipe.qat {
            None => Subject::Float(Box::new(FloatTrainee::new(
                &position.recipe,
                &model,
                values,
                options,
            )?)),
            Some(_) => Subject::Quantized(Box::new(QuantizedStart {
                teacher: model,
                values,
                observations,
            })),
        };
        Ok(Self {
            course: Course {
                folder,
                position,
                options,
                loss: f64::NAN,
            },
            subject,
        })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.course.position.recipe
    }

    /// The data set's folder that the run was started with.
    pub fn data_dir(&self) -> Option<&std::path::Path> {
        self.course.position.data_dir.as_deref()
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.course.folder
    }

    /// The epochs done.
    pub fn history(&self) -> &[EpochReport] {
        &self.course.position.history
    }

    /// The network in floating point as it is now; in quantization-aware training, the teacher.
    ///
    /// # Errors
    /// If a parameter is not finite.
    pub fn model(&self) -> Result<Model, TrainError> {
        match &self.subject {
            Subject::Float(trainee) => trainee.model(),
            Subject::Quantized(start) => Ok(start.teacher.clone()),
        }
    }

    fn graph(&self) -> &Graph {
        match &self.subject {
            Subject::Float(trainee) => trainee.graph(),
            Subject::Quantized(start) => start.teacher.graph(),
        }
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
    ) -> Result<Trained, TrainError> {
        let images = self.check(data)?;
        let result = self.train_on(data, &images, listener);
        listener.end();
        result
    }

    fn train_on(
        &mut self,
        data: TrainingData<'_>,
        images: &[usize],
        listener: &dyn TrainListener,
    ) -> Result<Trained, TrainError> {
        let recipe = self.course.position.recipe.clone();
        match (&mut self.subject, &recipe.qat) {
            (Subject::Quantized(start), Some(qat)) => {
                let teacher = start.teacher.clone().with_info(course::info(data))?;
                // What learns runs on the ordinary layers' weights as they will be.
                let teacher = round_ordinary(&teacher)?;
                let executor = Executor::new(&teacher, self.course.options.kernel)?;
                let steps = recipe.epochs * course::steps(images.len(), recipe.batch);
                let mut trainee = QuantizedTrainee::new(
                    &executor, start, &recipe, qat, data, images, steps, listener,
                )?;
                let result = self.course.run(&mut trainee, data, images, listener);
                start.update(trainee.state()?);
                result
            }
            (Subject::Float(trainee), _) => {
                self.course.run(trainee.as_mut(), data, images, listener)
            }
            (Subject::Quantized(_), None) => Err(TrainError::Recipe {
                origin: recipe.architecture.to_string(),
                reason: "has lost its `qat` section".into(),
            }),
        }
    }

    /// Checks the data and gives the places of the training images.
    fn check(&self, data: TrainingData<'_>) -> Result<Vec<usize>, TrainError> {
        let graph = self.graph();
        let recipe = &self.course.position.recipe;
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
}

#[cfg(test)]
mod tests;
