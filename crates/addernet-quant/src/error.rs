//! The crate's one error type.

use addernet_graph::GraphError;

/// Everything that can go wrong when a model is quantized or a quantized model is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The graph, its parameters or its file.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A setting that no layer could satisfy.
    #[error("{setting}: {reason}")]
    Config {
        /// The setting, as users name it (`bits`, `groups` …).
        setting: &'static str,
        /// Why it cannot be, and what could.
        reason: String,
    },
    /// A layer that cannot be quantized as asked.
    #[error("layer `{node}`: {reason}")]
    Layer {
        /// The layer's node.
        node: String,
        /// What stands in the way, and what would mend it.
        reason: String,
    },
    /// The images for calibration or BN re-estimation could not be had.
    #[error("training images: {source}")]
    Images {
        /// The source's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl QuantError {
    /// An error about one layer.
    pub(crate) fn layer(node: &str, reason: impl Into<String>) -> Self {
        QuantError::Layer {
            node: node.to_owned(),
            reason: reason.into(),
        }
    }

    /// An error about one setting.
    pub(crate) fn config(setting: &'static str, reason: impl Into<String>) -> Self {
        QuantError::Config {
            setting,
            reason: reason.into(),
        }
    }
}
