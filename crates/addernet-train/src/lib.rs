//! Training of AdderNets, on [Burn](https://burn.dev): on the CPU, and with the feature `gpu` on GPUs.
//!
//! - [`adder_conv2d`] is the adder convolution as a Burn operation with its own backward pass, [`AdderConv2d`] the layer
//!   for models written with Burn;
//! - [`Network`] is a graph of `addernet-graph` as a Burn module, from and to its [`Model`](addernet_graph::Model);
//! - [`Run`] trains one by a [`Recipe`], in a [`RunFolder`] from which it can be resumed: in floating point, or, if the
//!   recipe has a [`Qat`] section, with its codes in place (quantization-aware training).
//!
//! Activations are NHWC in the operation and in [`Network`], as everywhere in this workspace; [`AdderConv2d`] takes NCHW, as
//! Burn's own layers do.

pub mod bench;
mod checkpoint;
mod curves;
mod device;
mod diagnosis;
mod error;
mod evaluate;
mod folder;
#[cfg(feature = "gpu")]
mod gpu;
mod init;
mod layer;
mod network;
mod op;
mod progress;
mod recipe;
mod sgd;
mod tensorboard;
mod trainer;

pub use device::TrainDevice;
pub use error::TrainError;
pub use folder::RunFolder;
pub use init::initial_model;
pub use layer::{AdderConv2d, AdderConv2dConfig};
pub use network::{Network, NetworkOptions};
pub use op::{AdderConvOptions, PUBLISHED_ETA, adder_conv2d};
pub use progress::{EpochReport, StepReport, TrainListener};
pub use recipe::{Qat, Recipe, Schedule};
pub use trainer::{Run, TrainOptions, Trained, TrainingData};
