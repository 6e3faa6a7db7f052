//! A run's folder.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoint::Position;
use crate::curves;
use crate::error::TrainError;
use crate::progress::{EpochReport, TrainListener};
use crate::tensorboard;

/// The files of a run, in a folder of their own.
///
/// | file | what |
/// |---|---|
/// | `checkpoint.safetensors` | all that the run needs to go on; the other files are made from it |
/// | `model.safetensors` | the network after the last whole epoch: a model file |
/// | `recipe.toml` | the recipe with all overrides |
/// | `run.json` | seed, data, versions |
/// | `metrics.csv`, `metrics.json` | one line, or object, per epoch |
/// | `curves.svg` | loss and accuracy over the epochs |
/// | `events.out.tfevents.addernet` | the same for TensorBoard (`tensorboard --logdir DIR`), times being seconds of training |
///
/// Each is written to a temporary name and renamed; only the last one grows in place.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder for a new run; it is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or holds a run already.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        let folder = Self {
            path: path.to_owned(),
        };
        if folder.checkpoint().exists() {
            return Err(folder.error(format!(
                "holds a run already; go on with it (--resume {}) or name another folder",
                path.display()
            )));
        }
        std::fs::create_dir_all(path)
            .map_err(|error| folder.error(format!("cannot be made: {error}")))?;
        Ok(folder)
    }

    /// The folder of an existing run.
    ///
    /// # Errors
    /// If there is none, or no checkpoint in it.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let folder = Self {
            path: path.to_owned(),
        };
        if !path.is_dir() {
            return Err(folder.error("is not there; a run is started with --out".into()));
        }
        if !folder.checkpoint().is_file() {
            return Err(folder.error(
                "holds no checkpoint.safetensors: no run, or one that was stopped before its first step; start it again"
                    .into(),
            ));
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint's path.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    /// The path of the trained network.
    pub fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// Removes temporary files that a killed run left behind.
    pub(crate) fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".addernet-") && name.ends_with(".tmp") {
                // It is of no use, and in nobody's way if it stays.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Writes what does not change during the run.
    pub(crate) fn describe(
        &self,
        position: &Position,
        listener: &dyn TrainListener,
    ) -> Result<(), TrainError> {
        let recipe = &position.recipe;
        listener.write(&self.path.join("recipe.toml"), recipe.to_toml()?.as_bytes())?;
        let run = json!({
            "seed": recipe.seed,
            "dataset": recipe.dataset,
            "data_dir": position.data_dir,
            "versions": {
                "addernet-train": env!("CARGO_PKG_VERSION"),
                "operating_system": std::env::consts::OS,
                "processor": std::env::consts::ARCH,
            },
            "kernel": crate::op::default_kernel().name(),
            "threads": rayon::current_num_threads(),
        });
        self.write_json("run.json", &run, listener)
    }

    /// Writes metrics and curves.
    pub(crate) fn report(
        &self,
        history: &[EpochReport],
        listener: &dyn TrainListener,
    ) -> Result<(), TrainError> {
        listener.write(&self.path.join("metrics.csv"), csv(history).as_bytes())?;
        let metrics = json!({ "epochs": history });
        self.write_json("metrics.json", &metrics, listener)?;
        let events = self.path.join(tensorboard::FILE_NAME);
        tensorboard::update(&events, history).map_err(|error| TrainError::Run {
            path: events,
            reason: format!("cannot be written: {error}"),
        })?;
        let curves = curves::svg(history);
        Ok(listener.write(&self.path.join("curves.svg"), curves.as_bytes())?)
    }

    fn write_json(
        &self,
        name: &str,
        value: &serde_json::Value,
        listener: &dyn TrainListener,
    ) -> Result<(), TrainError> {
        Ok(listener.write(&self.path.join(name), format!("{value:#}\n").as_bytes())?)
    }

    fn error(&self, reason: String) -> TrainError {
        TrainError::Run {
            path: self.path.clone(),
            reason,
        }
    }
}

fn csv(history: &[EpochReport]) -> String {
    let mut text = "epoch,lr,train_loss,train_top1,test_loss,test_top1,seconds\n".to_owned();
    let number = |v: Option<f64>| v.map_or(String::new(), |v| v.to_string());
    for e in history {
        let fields = [
            e.epoch.to_string(),
            e.lr.to_string(),
            e.train_loss.to_string(),
            e.train_top1.to_string(),
            number(e.test_loss),
            number(e.test_top1),
            format!("{:.3}", e.seconds),
        ];
        text.push_str(&fields.join(","));
        text.push('\n');
    }
    text
}
