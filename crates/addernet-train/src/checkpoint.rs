//! Everything that a run needs to go on, in one file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use addernet_graph::file::ModelFile;
use addernet_graph::{Graph, Model};
use addernet_quant::Observations;
use ndarray::{ArrayD, IxDyn};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::progress::EpochReport;
use crate::recipe::Recipe;

/// Key of the extension that tells a checkpoint from a model file.
const TRAINING: &str = "training";
/// Version of the extension.
const VERSION: u32 = 1;
/// Key of the extension with what calibration saw.
const OBSERVATIONS: &str = "observations";
/// Name prefix of the optimizer's velocities.
const VELOCITY: &str = "velocity:";
/// Name prefix of the values of a quantized learner.
const LEARNER: &str = "learner:";

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    version: u32,
    /// What is computed.
    pub(crate) recipe: Recipe,
    /// Folder of the data set, as it was given.
    pub(crate) data_dir: Option<PathBuf>,
    /// Epochs done.
    pub(crate) epoch: usize,
    /// Steps done of the next one.
    pub(crate) step: usize,
    /// Sum of the losses of the images in these steps.
    pub(crate) loss_sum: f64,
    /// How many of them were classified correctly.
    pub(crate) correct: usize,
    /// How many they were.
    pub(crate) images: usize,
    /// Seconds that these steps took.
    pub(crate) seconds: f64,
    /// The epochs done.
    pub(crate) history: Vec<EpochReport>,
}

impl Position {
    pub(crate) fn start(recipe: Recipe, data_dir: Option<PathBuf>) -> Self {
        Self {
            version: VERSION,
            recipe,
            data_dir,
            epoch: 0,
            step: 0,
            loss_sum: 0.0,
            correct: 0,
            images: 0,
            seconds: 0.0,
            history: Vec::new(),
        }
    }

    /// The epoch is done, and this is what became of it.
    pub(crate) fn next_epoch(&mut self, report: EpochReport) {
        self.epoch += 1;
        self.history.push(report);
        self.step = 0;
        self.loss_sum = 0.0;
        self.correct = 0;
        self.images = 0;
        self.seconds = 0.0;
    }
}

/// A checkpoint: position, parameters, optimizer.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) position: Position,
    pub(crate) model: Model,
    /// The optimizer's velocities by parameter name; none before the first step. In quantization-aware training, the
    /// learner's values by name.
    pub(crate) values: BTreeMap<String, Vec<f32>>,
    /// In quantization-aware training, what calibration saw.
    pub(crate) observations: Option<Observations>,
}

impl Checkpoint {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        let mut file = ModelFile::from(self.model.clone());
        file.set_extension(TRAINING, &self.position)?;
        if let Some(observations) = &self.observations {
            file.set_extension(OBSERVATIONS, observations)?;
        }
        if self.position.recipe.qat.is_some() {
            for (name, values) in &self.values {
                let array = ndarray::Array1::from(values.clone()).into_dyn();
                file.insert(format!("{LEARNER}{name}"), array);
            }
            return Ok(file.to_bytes()?);
        }
        for ((_, name), shape) in learned(self.model.graph()) {
            if let Some(values) = self.values.get(&name) {
                let array = ArrayD::from_shape_vec(IxDyn(&shape), values.clone());
                let array = array.map_err(|error| TrainError::Run {
                    path: PathBuf::from(&name),
                    reason: error.to_string(),
                })?;
                file.insert(format!("{VELOCITY}{name}"), array);
            }
        }
        Ok(file.to_bytes()?)
    }

    /// Reads a checkpoint; whatever is wrong with it is an error that names the file.
    pub(crate) fn read(path: &Path) -> Result<Self, TrainError> {
        let invalid = |reason: String| TrainError::Run {
            path: path.to_owned(),
            reason,
        };
        let mut file = ModelFile::read(path)?;
        let position: Position = file.extension(TRAINING)?.ok_or_else(|| {
            invalid("is a model file without a `training` entry: no checkpoint of a run".into())
        })?;
        if position.version != VERSION {
            return Err(invalid(format!(
                "is a checkpoint of version {}, this program reads {VERSION}",
                position.version
            )));
        }
        position.recipe.check(&path.display().to_string())?;
        if position.epoch != position.history.len() || position.epoch > position.recipe.epochs {
            return Err(invalid(format!(
                "is damaged: {} epochs done of {}, but {} in its history",
                position.epoch,
                position.recipe.epochs,
                position.history.len()
            )));
        }
        let observations: Option<Observations> = file.extension(OBSERVATIONS)?;
        let begun = position.epoch + position.step > 0;
        let mut values = BTreeMap::new();
        if position.recipe.qat.is_some() {
            values = take_learner(&mut file)?;
            if begun && observations.is_none() {
                return Err(invalid("is damaged: its `observations` are gone".into()));
            }
        } else if begun {
            for ((node, name), shape) in learned(&file.graph) {
                let stored = file.take::<f32>(&node, &format!("{VELOCITY}{name}"), &shape)?;
                values.insert(name, stored.into_iter().collect());
            }
        }
        for key in [TRAINING, OBSERVATIONS] {
            file.extensions.remove(key);
        }
        Ok(Self {
            position,
            model: file.into_model()?,
            values,
            observations,
        })
    }
}

/// All tensors of the learner; it checks itself whether they fit.
fn take_learner(file: &mut ModelFile) -> Result<BTreeMap<String, Vec<f32>>, TrainError> {
    let names: Vec<(String, Vec<usize>)> = file
        .tensors
        .iter()
        .filter(|(name, _)| name.starts_with(LEARNER))
        .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()))
        .collect();
    let mut values = BTreeMap::new();
    for (name, shape) in names {
        let stored = file.take::<f32>("learner", &name, &shape)?;
        values.insert(
            name[LEARNER.len()..].to_owned(),
            stored.into_iter().collect(),
        );
    }
    Ok(values)
}

/// Node, full name and shape of all parameters but BN's running statistics.
fn learned(graph: &Graph) -> Vec<((String, String), Vec<usize>)> {
    let of = |node: &addernet_graph::Node| -> Vec<_> {
        let parameters = node.parameters();
        let statistic =
            |name: &str| name.ends_with(".running_mean") || name.ends_with(".running_var");
        parameters
            .filter(|(name, _)| !statistic(name))
            .map(|(name, shape)| ((node.name().to_owned(), name), shape))
            .collect()
    };
    graph.nodes().iter().flat_map(of).collect()
}
