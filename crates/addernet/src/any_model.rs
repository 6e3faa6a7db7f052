//! Whatever a file holds.

use std::path::Path;

use addernet_graph::import::{self, ImportOptions};
use addernet_graph::{Graph, Model};
use addernet_quant::{QuantizedModel, nudge, store};

use crate::error::Error;

/// A model, float or quantized.
#[derive(Clone, Debug)]
pub enum AnyModel {
    /// A float model.
    Float(Model),
    /// A quantized model.
    Quantized(QuantizedModel),
}

impl AnyModel {
    /// Opens a PyTorch checkpoint (`.pth`, `.pt`), a safetensors state dict, or a model file; they are
    /// told apart by their content.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or holds no network of the zoo.
    pub fn open(path: &Path, options: &ImportOptions) -> Result<Self, Error> {
        let file = import::load_any(path, options)?;
        Ok(match file.is_quantized() {
            true => AnyModel::Quantized(store::from_file(file)?),
            false => AnyModel::Float(file.into_model()?),
        })
    }

    /// The model in floating point: itself, or with the weights that its codes stand for.
    pub fn float(&self) -> &Model {
        match self {
            AnyModel::Float(model) => model,
            AnyModel::Quantized(quantized) => quantized.model(),
        }
    }

    /// The same network with parameters moved to neighbouring floats: see [`nudge`](addernet_quant::nudge()).
    ///
    /// # Errors
    /// If a layer lacks a parameter.
    pub fn nudged(&self, seed: u64) -> Result<Self, Error> {
        Ok(match self {
            AnyModel::Float(model) => AnyModel::Float(nudge(model, seed)?),
            AnyModel::Quantized(quantized) => AnyModel::Quantized(quantized.nudged(seed)?),
        })
    }

    /// The network's structure.
    pub fn graph(&self) -> &Graph {
        self.float().graph()
    }
}
