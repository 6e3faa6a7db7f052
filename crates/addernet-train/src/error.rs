//! The crate's one error type.

use std::path::PathBuf;

use addernet_data::DataError;
use addernet_graph::GraphError;
use addernet_kernels::KernelError;
use addernet_quant::QuantError;

/// What can go wrong with a training run.
///
/// Each message says what, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The graph, its parameters or a model file.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Quantization-aware training.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The L1 operator.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A recipe is not valid.
    #[error("recipe {origin}: {reason}")]
    Recipe {
        /// The recipe's name or file, or the setting that was overridden.
        origin: String,
        /// What is wrong with it, in one line.
        reason: String,
    },
    /// A run's folder or one of its files.
    #[error("{path}: {reason}")]
    Run {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The data set does not fit the network.
    #[error("the images are {images}, the network `{graph}` takes {expected}")]
    Images {
        /// The graph's name.
        graph: String,
        /// What it takes.
        expected: String,
        /// What the data set has.
        images: String,
    },
    /// A GPU is asked for, and the program has been built without.
    #[error(
        "this program was built without support for GPUs: build it with the feature `gpu`, or train on the CPU"
    )]
    GpuNotBuilt,
    /// There is no GPU to train on.
    #[error(
        "no GPU can be used: {reason}; install its graphics driver (Vulkan on Linux), or train on the CPU"
    )]
    GpuUnavailable {
        /// What the graphics interface says, in one line.
        reason: String,
    },
    /// The device has failed.
    #[error("the device failed: {reason}")]
    Device {
        /// What it says, in one line.
        reason: String,
    },
    /// Training went wrong.
    #[error("training stopped at epoch {epoch}, step {step}: {what}; the likely cause: {cause}")]
    Failed {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Step within the epoch, counted from 1.
        step: usize,
        /// What was seen.
        what: String,
        /// Why, and what to change.
        cause: String,
    },
}

impl TrainError {
    /// The device has failed, and says so.
    pub(crate) fn device(error: impl std::fmt::Display) -> Self {
        Self::Device {
            reason: error.to_string(),
        }
    }
}
