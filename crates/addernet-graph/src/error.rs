//! The crate's one error type.

use std::path::{Path, PathBuf};

use crate::zoo::Architecture;

/// Everything that can go wrong with a graph, its parameters or its files.
///
/// Each message names the node, parameter or file, and what would mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A node contradicts the rest of the graph (unknown input, duplicate name, wrong arity …).
    #[error("node `{node}`: {reason}")]
    InvalidNode {
        /// The node's name.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph as a whole is not runnable.
    #[error("graph `{graph}`: {reason}")]
    InvalidGraph {
        /// The graph's name.
        graph: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Parameters do not fit the graph.
    #[error("the parameters do not fit the graph `{graph}`: {mismatch}")]
    Parameters {
        /// The graph's name.
        graph: String,
        /// The keys that are missing, unexpected or misshapen.
        mismatch: ParameterMismatch,
    },
    /// A parameter holds NaN or an infinity.
    #[error(
        "parameter `{parameter}` of node `{node}` holds {count} non-finite value(s), the first at flat \
         index {index}: the model is damaged or its training diverged; export it again"
    )]
    NonFinite {
        /// The node that owns the parameter.
        node: String,
        /// The parameter's full name.
        parameter: String,
        /// How many of its values are NaN or infinite.
        count: usize,
        /// Flat index (row-major) of the first of them.
        index: usize,
    },
    /// An input batch does not have the shape that the graph expects.
    #[error("input batch: expected images of {expected} (height x width x channels), got {got}")]
    InputShape {
        /// The expected image shape.
        expected: String,
        /// The shape received.
        got: String,
    },
    /// The L1 operator refused a layer.
    #[error("node `{node}`: {source}")]
    Kernel {
        /// The node's name.
        node: String,
        /// The operator's own message.
        source: addernet_kernels::KernelError,
    },
    /// A hook that replaces or observes a node failed.
    #[error("node `{node}`: {source}")]
    Hook {
        /// The node's name.
        node: String,
        /// The hook's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An architecture's name is not in the zoo.
    #[error("unknown architecture `{name}`; known: {known}")]
    UnknownArchitecture {
        /// The name given.
        name: String,
        /// The zoo's names, comma separated.
        known: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file is not what it should be: damaged, of another kind, too large …
    #[error("{path}: {reason}")]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in one line.
        reason: String,
    },
    /// The content of a file is refused.
    #[error("{path}: {source}")]
    InFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<GraphError>,
    },
    /// A pickle names a Python object that no state dict needs. Nothing of it was executed.
    #[error("{path}: refuses to load: the pickle calls `{global}`; {advice}")]
    ForbiddenGlobal {
        /// The file.
        path: PathBuf,
        /// The object's module and name, `os.system`.
        global: String,
        /// What to do about it.
        advice: String,
    },
    /// The parameters are of no network in the zoo.
    #[error(
        "the parameters fit no known architecture ({known}); the closest is {closest}: {mismatch}"
    )]
    UnknownModel {
        /// The zoo's names, comma separated.
        known: String,
        /// The architecture that most of the parameters fit.
        closest: Architecture,
        /// The keys that differ from it.
        mismatch: ParameterMismatch,
    },
}

impl GraphError {
    /// [`GraphError::InvalidFile`], with the reason on one line of readable length: parts of it
    /// come from the file.
    pub(crate) fn invalid_file(path: &Path, reason: impl AsRef<str>) -> Self {
        GraphError::InvalidFile {
            path: path.to_owned(),
            reason: one_line(reason.as_ref()),
        }
    }

    /// The same error with the name of the file it came from, unless it already carries one.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            GraphError::Io { .. }
            | GraphError::InvalidFile { .. }
            | GraphError::InFile { .. }
            | GraphError::ForbiddenGlobal { .. } => self,
            error => GraphError::InFile {
                path: path.to_owned(),
                source: Box::new(error),
            },
        }
    }
}

/// `text` without control characters, and without its middle if it is very long.
pub(crate) fn one_line(text: &str) -> String {
    const HALF: usize = 300;
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let length = text.chars().count();
    if length <= 2 * HALF {
        return text.chars().map(clean).collect();
    }
    let (start, end) = (text.chars().take(HALF), text.chars().skip(length - HALF));
    start
        .map(clean)
        .chain(" … ".chars())
        .chain(end.map(clean))
        .collect()
}

/// Parameter names that are missing, unexpected, or of the wrong shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterMismatch {
    /// Names the graph needs and the model lacks.
    pub missing: Vec<String>,
    /// Names the model has and the graph does not know.
    pub unexpected: Vec<String>,
    /// `(name, expected shape, found shape)` of parameters of another shape than the graph's.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl ParameterMismatch {
    /// Whether there is no mismatch at all.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }

    /// Number of names concerned.
    pub fn len(&self) -> usize {
        self.missing.len() + self.unexpected.len() + self.misshapen.len()
    }
}

impl std::fmt::Display for ParameterMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        for (label, names) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if !names.is_empty() {
                write!(
                    f,
                    "{separator}{} {label} ({})",
                    names.len(),
                    abbreviated(names)
                )?;
                separator = "; ";
            }
        }
        if !self.misshapen.is_empty() {
            let shapes: Vec<String> = self
                .misshapen
                .iter()
                .map(|(name, expected, found)| {
                    format!("{name}: expected {expected:?}, found {found:?}")
                })
                .collect();
            write!(
                f,
                "{separator}{} misshapen ({})",
                shapes.len(),
                abbreviated(&shapes)
            )?;
        }
        Ok(())
    }
}

/// The first names in full and the number of the others: an error stays readable on a terminal.
fn abbreviated(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| one_line(name))
        .collect();
    let shown = shown.join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(rest) if rest > 0 => format!("{shown}, and {rest} more"),
        _ => shown,
    }
}
