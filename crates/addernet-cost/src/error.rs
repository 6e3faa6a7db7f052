//! The crate's one error type.

use std::path::PathBuf;

use addernet_graph::GraphError;

/// Everything that can go wrong when a network's cost is computed. Each message names what is wrong and
/// what would mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// A graph that cannot be what was asked for.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A setting that no network could have.
    #[error("{setting}: {reason}")]
    Config {
        /// The setting, as users name it (`bits`, `groups` …).
        setting: &'static str,
        /// Why it cannot be, and what could.
        reason: String,
    },
    /// Bits were given for a node that is not an adder layer, or an adder layer has none.
    #[error("layer `{node}`: {reason}")]
    Layer {
        /// The node.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An energy model's file could not be read.
    #[error("{}: {source}; give the path of a TOML file with an energy model, or the name of a built-in one", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// An energy model that is none.
    #[error("{origin}: {field}{reason}")]
    EnergyModel {
        /// The file, or `energy model` where there is none.
        origin: String,
        /// The field as in TOML, quoted, with a colon and a space behind it (`` `integer.add.8`: ``), or empty.
        field: String,
        /// What is wrong, and what would mend it.
        reason: String,
    },
    /// A text that is no energy.
    #[error("`{text}` is no energy: {reason}")]
    Energy {
        /// The text.
        text: String,
        /// What is wrong, and an example.
        reason: &'static str,
    },
}

impl CostError {
    /// An error about one setting.
    pub(crate) fn config(setting: &'static str, reason: impl Into<String>) -> Self {
        CostError::Config {
            setting,
            reason: reason.into(),
        }
    }

    /// An error about one layer.
    pub(crate) fn layer(node: &str, reason: impl Into<String>) -> Self {
        CostError::Layer {
            node: node.to_owned(),
            reason: reason.into(),
        }
    }
}
