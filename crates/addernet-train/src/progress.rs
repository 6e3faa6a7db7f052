//! How a run tells how far it is.

use std::path::Path;

use addernet_graph::GraphError;
use addernet_graph::file::write_atomically;
use serde::{Deserialize, Serialize};

/// A finished step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Steps done of this epoch.
    pub step: usize,
    /// Steps per epoch.
    pub steps: usize,
    /// Loss of the step's batch, in nats; on a GPU, of the last batch whose loss has been read back.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
}

/// A finished epoch: one line of the metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Epochs done.
    pub epoch: usize,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean loss over the epoch's training images, in nats, while the network was learning.
    pub train_loss: f64,
    /// Share of them that were classified correctly, 0 to 1, while the network was learning.
    pub train_top1: f64,
    /// Mean loss on the test images, in nats; absent if they were not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_loss: Option<f64>,
    /// Share of the test images that are classified correctly, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_top1: Option<f64>,
    /// Time of the epoch without the test, in seconds; of an interrupted epoch, what led to its result.
    pub seconds: f64,
}

/// Is told about the progress of a run, and writes its files.
///
/// `()` is the listener that does not listen.
pub trait TrainListener {
    /// Something that takes a while comes before the first step: `what` says it in a few words.
    fn prepare(&self, what: &str) {
        let _ = what;
    }

    /// The run begins, or goes on, with so many steps done of so many.
    fn begin(&self, done: usize, steps: usize) {
        let _ = (done, steps);
    }

    /// A step is done.
    fn step(&self, report: &StepReport) {
        let _ = report;
    }

    /// An epoch is done and evaluated.
    fn epoch(&self, report: &EpochReport) {
        let _ = report;
    }

    /// The run is over, or has failed.
    fn end(&self) {}

    /// Writes a file of the run, whole or not at all. A program that may end itself at any moment overrides this to
    /// wait for it.
    ///
    /// # Errors
    /// If the file cannot be written.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), GraphError> {
        write_atomically(path, bytes)
    }
}

impl TrainListener for () {}
