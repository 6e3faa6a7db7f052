//! The model file: one `.safetensors` with the graph and everything else as JSON in its header.
//!
//! docs/FORMAT.md specifies it and docs/format.schema.json is the JSON's schema. A file is written
//! to a temporary name and renamed, so that it is there whole or not at all. Whatever is read is
//! checked before anything is allocated for it.

pub(crate) mod header;
mod metadata;
pub(crate) mod read;
mod tensor;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{GraphError, ParameterMismatch};
use crate::graph::Graph;
use crate::model::{Model, ModelInfo, Parameters};
use metadata::{Document, Refusal};

pub use metadata::{FORMAT_VERSION, METADATA_KEY};
pub(crate) use tensor::array;
pub use tensor::{Element, StoredTensor};
pub use write::atomically as write_atomically;

/// Key of the extension that quantized models carry.
pub const QUANTIZATION: &str = "quantization";

/// The content of a model file.
///
/// A float model has one tensor per parameter and no extension. A crate that stores more (codes,
/// scales) adds tensors and an extension, JSON under a key of its own, and reads them back with
/// [`take`](Self::take) and [`extension`](Self::extension), whose errors name node and file.
///
/// ```
/// use addernet_graph::{FeatureShape, Model, file::ModelFile, zoo::Architecture};
/// use ndarray::{ArrayD, IxDyn};
///
/// let graph = Architecture::LeNet5Bn.graph(FeatureShape::new(1, 32, 32), 10)?;
/// let parameters =
///     graph.parameters().map(|(name, shape)| (name, ArrayD::from_elem(shape, 0.5))).collect();
/// let file = ModelFile::from(Model::new(graph, parameters)?);
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("lenet.safetensors");
/// file.write(&path)?;
/// let model = ModelFile::read(&path)?.into_model()?;
/// assert_eq!(model.graph().classes(), 10);
/// # Ok::<(), addernet_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The network.
    pub graph: Graph,
    /// What accompanies it.
    pub info: ModelInfo,
    /// All tensors by name; a parameter's tensor has the parameter's full name.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// Further keys of the metadata: each changes what the tensors mean, so a reader must refuse
    /// those it does not know.
    pub extensions: Map<String, Value>,
    origin: Option<PathBuf>,
}

impl ModelFile {
    /// A file without tensors and extensions.
    pub fn new(graph: Graph, info: ModelInfo) -> Self {
        Self {
            graph,
            info,
            tensors: BTreeMap::new(),
            extensions: Map::new(),
            origin: None,
        }
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// If it cannot be read or is not a valid model file; see [`from_bytes`](Self::from_bytes).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, GraphError> {
        let path = path.as_ref();
        Self::from_bytes(&read::whole(path)?, path)
    }

    /// Parses a model file's bytes; `origin` is the name that errors carry.
    ///
    /// # Errors
    /// If the container is damaged or truncated, has no `addernet` metadata, or has one of an
    /// unknown version; if the graph is not valid, or a tensor has another element type than F32,
    /// I32, I8 and U8. Whether the tensors fit the graph is checked by
    /// [`into_model`](Self::into_model) and [`take`](Self::take).
    pub fn from_bytes(bytes: &[u8], origin: &Path) -> Result<Self, GraphError> {
        let invalid = |reason: String| GraphError::invalid_file(origin, reason);
        if !header::looks_like_safetensors(bytes) {
            return Err(invalid("is not a safetensors file".into()));
        }
        let container = header::parse(bytes).map_err(invalid)?;
        let text = container.metadata.get(METADATA_KEY).ok_or_else(|| {
            invalid(format!(
                "is a safetensors file without `{METADATA_KEY}` metadata: a bare state dict, which \
                 has to be imported"
            ))
        })?;
        let Document {
            graph,
            info,
            extensions,
        } = metadata::from_text(text).map_err(|refusal| match refusal {
            Refusal::Document(reason) => invalid(reason),
            Refusal::Graph(error) => error.in_file(origin),
        })?;
        let tensors = container
            .tensors
            .iter()
            .map(|raw| Ok((raw.name.clone(), StoredTensor::from_raw(raw)?)))
            .collect::<Result<_, String>>()
            .map_err(invalid)?;
        Ok(Self {
            graph,
            info,
            tensors,
            extensions,
            origin: Some(origin.to_owned()),
        })
    }

    /// The file's bytes. The same content always gives the same bytes.
    ///
    /// # Errors
    /// If an extension or a tensor has a reserved name, or the metadata has no JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, GraphError> {
        let invalid = |reason: String| GraphError::InvalidGraph {
            graph: self.graph.name().to_owned(),
            reason: format!("cannot be stored: {reason}"),
        };
        const RESERVED: &str = "__metadata__";
        if self.tensors.contains_key(RESERVED) {
            return Err(invalid(format!("a tensor must not be named `{RESERVED}`")));
        }
        let text = metadata::to_text(&self.graph, &self.info, &self.extensions).map_err(invalid)?;
        // A single key: the order of several would change from run to run.
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), text)]);
        safetensors::serialize(&self.tensors, Some(metadata))
            .map_err(|error| invalid(error.to_string()))
    }

    /// Writes the file: it is there whole under its name, or nothing has changed.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes), and if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), GraphError> {
        write::atomically(path.as_ref(), &self.to_bytes()?)
    }

    /// The same content, as if read from `origin`.
    pub(crate) fn with_origin(self, origin: &Path) -> Self {
        Self {
            origin: Some(origin.to_owned()),
            ..self
        }
    }

    /// The path it was read from.
    pub fn origin(&self) -> Option<&Path> {
        self.origin.as_deref()
    }

    /// Whether it holds a quantized model, which [`into_model`](Self::into_model) refuses.
    pub fn is_quantized(&self) -> bool {
        self.extensions.contains_key(QUANTIZATION)
    }

    /// The float model it holds.
    ///
    /// # Errors
    /// If it holds a quantized model or an unknown extension, or its tensors are not exactly the
    /// graph's parameters, as finite F32 values.
    pub fn into_model(self) -> Result<Model, GraphError> {
        if let Some(key) = self.extensions.keys().next() {
            let reason = if self.is_quantized() {
                "holds a quantized model; use it with an engine for quantized models, or take the \
                 float model it was made from"
                    .to_owned()
            } else {
                let key = crate::error::one_line(key);
                format!("carries the extension `{key}`, which this program does not know")
            };
            let graph = self.graph.name().to_owned();
            return Err(self.located(GraphError::InvalidGraph { graph, reason }));
        }
        let Self {
            graph,
            info,
            tensors,
            origin,
            ..
        } = self;
        let located = |error: GraphError| match &origin {
            Some(path) => error.in_file(path),
            None => error,
        };
        let mut owners = HashMap::new();
        for node in graph.nodes() {
            owners.extend(node.parameters().map(|(name, _)| (name, node.name())));
        }
        let mut parameters = Parameters::new();
        for (name, tensor) in tensors {
            let values = match (f32::from_tensor(tensor), owners.get(&name)) {
                (Ok(values), _) => values,
                (Err(tensor), Some(&node)) => {
                    let reason = wrong_dtype::<f32>(&name, &tensor);
                    let node = node.to_owned();
                    return Err(located(GraphError::InvalidNode { node, reason }));
                }
                // Only its name counts: `Model::new` lists it among the unexpected ones.
                (Err(_), None) => ArrayD::zeros(IxDyn(&[0])),
            };
            parameters.insert(name, values);
        }
        Model::new(graph, parameters)
            .and_then(|model| model.with_info(info))
            .map_err(located)
    }

    /// The extension `key`, if the file has it.
    ///
    /// # Errors
    /// If it is not what `T` prescribes.
    pub fn extension<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, GraphError> {
        let Some(value) = self.extensions.get(key) else {
            return Ok(None);
        };
        T::deserialize(value).map(Some).map_err(|error| {
            self.located(GraphError::InvalidGraph {
                graph: self.graph.name().to_owned(),
                reason: crate::error::one_line(&format!("`{key}` in its metadata: {error}")),
            })
        })
    }

    /// Sets the extension `key`.
    ///
    /// # Errors
    /// If the value has no JSON form.
    pub fn set_extension<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), GraphError> {
        let value = serde_json::to_value(value).map_err(|error| GraphError::InvalidGraph {
            graph: self.graph.name().to_owned(),
            reason: format!("`{key}` has no JSON form: {error}"),
        })?;
        self.extensions.insert(key.to_owned(), value);
        Ok(())
    }

    /// Adds a tensor, or replaces the one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: impl Into<StoredTensor>) {
        self.tensors.insert(name.into(), tensor.into());
    }

    /// Takes the tensor `name` (its full name, such as `layer1.0.conv1.codes`) of `node` out of the
    /// file.
    ///
    /// # Errors
    /// If there is none, or it has another element type or shape, or holds NaN or an infinity. The
    /// error names node, tensor and file.
    pub fn take<T: Element>(
        &mut self,
        node: &str,
        name: &str,
        shape: &[usize],
    ) -> Result<ArrayD<T>, GraphError> {
        let Some(tensor) = self.tensors.remove(name) else {
            return Err(self.node_error(node, format!("tensor `{name}` is missing")));
        };
        if tensor.shape() != shape {
            let found = tensor.shape();
            let reason = format!("tensor `{name}` has the shape {found:?}, expected {shape:?}");
            return Err(self.node_error(node, reason));
        }
        let values = T::from_tensor(tensor)
            .map_err(|tensor| self.node_error(node, wrong_dtype::<T>(name, &tensor)))?;
        match T::non_finite(&values) {
            None => Ok(values),
            Some((count, index)) => Err(self.located(GraphError::NonFinite {
                node: node.to_owned(),
                parameter: name.to_owned(),
                count,
                index,
            })),
        }
    }

    /// Checks that every tensor was taken.
    ///
    /// # Errors
    /// If some are left; the error lists them.
    pub fn check_all_taken(&self) -> Result<(), GraphError> {
        if self.tensors.is_empty() {
            return Ok(());
        }
        let unexpected = self.tensors.keys().cloned().collect();
        Err(self.mismatch(ParameterMismatch {
            unexpected,
            ..Default::default()
        }))
    }

    /// The error that something about `node` is wrong, with the name of the file.
    pub fn node_error(&self, node: &str, reason: impl Into<String>) -> GraphError {
        self.located(GraphError::InvalidNode {
            node: node.to_owned(),
            reason: reason.into(),
        })
    }

    fn mismatch(&self, mismatch: ParameterMismatch) -> GraphError {
        self.located(GraphError::Parameters {
            graph: self.graph.name().to_owned(),
            mismatch,
        })
    }

    fn located(&self, error: GraphError) -> GraphError {
        match &self.origin {
            Some(path) => error.in_file(path),
            None => error,
        }
    }
}

impl From<Model> for ModelFile {
    fn from(model: Model) -> Self {
        let (graph, parameters, info) = model.into_parts();
        let tensors = parameters
            .into_iter()
            .map(|(name, values)| (name, values.into()))
            .collect();
        Self {
            tensors,
            ..Self::new(graph, info)
        }
    }
}

fn wrong_dtype<T: Element>(name: &str, tensor: &StoredTensor) -> String {
    format!(
        "tensor `{name}` has the element type {}, expected {}",
        tensor.dtype(),
        T::DTYPE
    )
}
