//! The crate's one error type.

use std::path::PathBuf;

use addernet_graph::{FeatureShape, GraphError};
use addernet_kernels::KernelError;
use addernet_quant::QuantError;

/// Everything that can go wrong when a quantized model is lowered or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model's file or its graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The quantized layers.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The file holds a float model.
    #[error(
        "{path}: holds a float model, and the engine computes on integers; quantize it first: \
         addernet quantize {path} --bits 4 …", path = path.display()
    )]
    FloatModel {
        /// The file.
        path: PathBuf,
    },
    /// The model does not say how pixels become its input.
    #[error(
        "model `{graph}`: it does not say how pixels are normalised, so that the engine cannot fold \
         it into the first layer; quantize the model again from its checkpoint, or set `preprocessing` in its info"
    )]
    NoPreprocessing {
        /// The graph's name.
        graph: String,
    },
    /// A layer that the engine cannot run.
    #[error("layer `{node}`: {reason}")]
    Layer {
        /// The layer's node.
        node: String,
        /// What stands in the way, and what would mend it.
        reason: String,
    },
    /// An accumulator or a product whose worst case does not fit its width.
    #[error(
        "layer `{node}`: {what} can reach {worst:e} in magnitude, and {limit:e} is the limit; it would \
         overflow. Use fewer bits, or check the layer's scales and BN statistics"
    )]
    Overflow {
        /// The layer's node.
        node: String,
        /// The quantity.
        what: &'static str,
        /// Its largest magnitude.
        worst: f64,
        /// The largest magnitude that fits.
        limit: f64,
    },
    /// The operator refused a layer.
    #[error("layer `{node}`: {source}")]
    Kernel {
        /// The layer's node.
        node: String,
        /// The operator's own error.
        source: KernelError,
    },
    /// Images of the wrong size.
    #[error(
        "images: {values} values are no whole number of images of {shape} (height x width x channels, {per_image} \
         values each)",
        per_image = shape.values()
    )]
    ImageLength {
        /// Values given.
        values: usize,
        /// Shape of one image.
        shape: FeatureShape,
    },
    /// A pixel value that is NaN or infinite.
    #[error("images: value {index} of image {image} is not finite")]
    NonFinite {
        /// The image's place.
        image: usize,
        /// The value's place in it.
        index: usize,
    },
}

impl EngineError {
    pub(crate) fn layer(node: &str, reason: impl Into<String>) -> Self {
        EngineError::Layer {
            node: node.to_owned(),
            reason: reason.into(),
        }
    }

    /// For `map_err` on a kernel's result.
    pub(crate) fn kernel(node: &str) -> impl FnOnce(KernelError) -> Self {
        move |source| EngineError::Kernel {
            node: node.to_owned(),
            source,
        }
    }
}
