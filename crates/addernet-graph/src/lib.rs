//! The network as data, and what can be done with it in floating point.
//!
//! - [`Graph`]: named nodes in topological order, with inferred shapes; [`zoo`] builds the published
//!   architectures.
//! - [`Model`]: a graph with its parameters.
//! - [`Executor`]: runs a model on a batch of images, with [`Hook`]s on every node.
//! - [`mod@file`]: the model file. [`import`]: PyTorch checkpoints and safetensors.
//!
//! Nothing here knows about bits: quantization is a function from models to models in its own crate.

mod error;
pub mod exec;
pub mod file;
mod graph;
pub mod import;
mod model;
mod op;
mod shape;
pub mod zoo;

pub use error::{GraphError, ParameterMismatch};
pub use exec::{Executor, Hook, HookError};
pub use graph::{Graph, GraphBuilder, GraphDescription, INPUT, Node, NodeDescription, NodeId};
pub use model::{Model, ModelInfo, Parameters, Preprocessing};
pub use op::{ConvAttributes, Op, PoolAttributes};
pub use shape::FeatureShape;
