//! Checkpoints of other programs: PyTorch's `.pth`/`.pt` and plain safetensors state dicts.
//!
//! What is accepted, by content and not by extension:
//!
//! - `torch.save` files, zip or legacy, of a state dict or of a checkpoint dictionary that holds one
//!   under `state_dict`, `model_state_dict`, `model` or `net`; dense tensors of any layout in f64,
//!   f32, f16 or bf16. Nothing in a pickle is executed, and a pickle that names any object besides
//!   those that tensors need is refused. Numbers, numpy scalars, `argparse.Namespace` and the like
//!   beside the state dict are skipped.
//! - safetensors files without `addernet` metadata, of the same element types.
//!
//! Names and shapes are adapted to the zoo's as follows, and no further:
//!
//! - the prefixes `module.`, `_orig_mod.` and `model.` are removed if all names have them;
//! - `num_batches_tracked` is ignored;
//! - an adder layer's weights may be called `weight` instead of `adder`;
//! - a block's `downsample` may be called `shortcut`;
//! - shapes may differ in extents of 1: a classifier of `[10, 64]` for `[10, 64, 1, 1]`.

mod architecture;
mod checkpoint;
mod decode;
mod pickle;
mod safetensors;
mod torch;

use std::path::Path;

use crate::error::GraphError;
use crate::file::{METADATA_KEY, ModelFile, header, read};
use crate::graph::Graph;
use crate::model::{Model, Parameters};
use crate::zoo::Architecture;
use pickle::Refusal;

/// What the user knows about a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Its architecture; `None`: recognised from names and shapes.
    pub architecture: Option<Architecture>,
    /// Height and width of its images; `None`: what the classifier's size asks for, or else the
    /// size that the architecture was published for.
    pub input: Option<(usize, usize)>,
}

/// The parameters in a checkpoint, as f32 and under the names of the network's modules.
///
/// # Errors
/// If the file cannot be read, is damaged, or is not a state dict.
pub fn state_dict(path: impl AsRef<Path>) -> Result<Parameters, GraphError> {
    let path = path.as_ref();
    state_dict_from_bytes(&read::whole(path)?, path)
}

/// The parameters in a checkpoint's bytes; `origin` is the name that errors carry.
///
/// # Errors
/// As [`state_dict`].
pub fn state_dict_from_bytes(bytes: &[u8], origin: &Path) -> Result<Parameters, GraphError> {
    match Content::of(bytes, origin)? {
        Content::ModelFile => Err(GraphError::invalid_file(
            origin,
            "is a model file of this program and not a state dict; open it as a model",
        )),
        Content::StateDict(parameters) => Ok(parameters),
    }
}

/// Recognises the architecture from the parameters' names and shapes: the number of classes and
/// of input channels from the last and the first layer, the image size from the classifier where
/// it depends on it.
///
/// # Errors
/// If no architecture of the zoo fits exactly. The error names the closest one and the keys that
/// are missing, unexpected or misshapen.
///
/// ```
/// use addernet_graph::{FeatureShape, Parameters, import, zoo::Architecture};
/// use ndarray::ArrayD;
///
/// let graph = Architecture::ResNet20.graph(FeatureShape::new(3, 32, 32), 100)?;
/// let parameters: Parameters =
///     graph.parameters().map(|(name, shape)| (name, ArrayD::zeros(shape))).collect();
/// let (architecture, graph) = import::detect(&parameters)?;
/// assert_eq!((architecture, graph.classes()), (Architecture::ResNet20, 100));
/// # Ok::<(), addernet_graph::GraphError>(())
/// ```
pub fn detect(parameters: &Parameters) -> Result<(Architecture, Graph), GraphError> {
    let (architecture, plan) = architecture::plan(parameters, None, None)?;
    Ok((architecture, plan.graph))
}

/// Loads a checkpoint as a model.
///
/// # Errors
/// As [`state_dict`] and [`detect`]; if the file holds a model file of another architecture than
/// `options` say; if parameters are not finite.
pub fn load(path: impl AsRef<Path>, options: &ImportOptions) -> Result<Model, GraphError> {
    load_any(path, options)?.into_model()
}

/// Opens whatever holds a model: a model file (quantized ones too) or a checkpoint, told apart by
/// their content.
///
/// # Errors
/// If the file is neither, is damaged, or contradicts `options`.
pub fn load_any(path: impl AsRef<Path>, options: &ImportOptions) -> Result<ModelFile, GraphError> {
    let path = path.as_ref();
    load_any_from_bytes(&read::whole(path)?, path, options)
}

/// [`load_any`] of a file's bytes; `origin` is the name that errors carry.
///
/// # Errors
/// As [`load_any`].
pub fn load_any_from_bytes(
    bytes: &[u8],
    origin: &Path,
    options: &ImportOptions,
) -> Result<ModelFile, GraphError> {
    match Content::of(bytes, origin)? {
        Content::ModelFile => {
            let file = ModelFile::from_bytes(bytes, origin)?;
            agrees(&file, options).map_err(|reason| GraphError::invalid_file(origin, reason))?;
            Ok(file)
        }
        Content::StateDict(parameters) => {
            let adapted = architecture::plan(&parameters, options.architecture, options.input);
            let (_, plan) = adapted.map_err(|error| error.in_file(origin))?;
            let (graph, parameters) = plan.apply(parameters);
            let model = Model::new(graph, parameters).map_err(|error| error.in_file(origin))?;
            Ok(ModelFile::from(model).with_origin(origin))
        }
    }
}

/// A model file says itself what it is: options may only repeat it.
fn agrees(file: &ModelFile, options: &ImportOptions) -> Result<(), String> {
    let (name, shape) = (file.graph.name(), file.graph.input_shape());
    match options {
        ImportOptions {
            architecture: Some(wanted),
            ..
        } if wanted.name() != name => Err(format!(
            "is a model file of `{name}`, not of `{wanted}`; leave the architecture out"
        )),
        ImportOptions {
            input: Some(wanted),
            ..
        } if *wanted != (shape.height, shape.width) => {
            let (height, width) = wanted;
            Err(format!(
                "is a model file for images of {}x{}, not {height}x{width}; leave the size out",
                shape.height, shape.width
            ))
        }
        _ => Ok(()),
    }
}

/// What a file holds.
enum Content {
    ModelFile,
    StateDict(Parameters),
}

impl Content {
    fn of(bytes: &[u8], origin: &Path) -> Result<Self, GraphError> {
        let invalid = |reason: String| GraphError::invalid_file(origin, reason);
        let refused = |refusal| match refusal {
            Refusal::Invalid(reason) => invalid(reason),
            Refusal::Forbidden { global, advice } => GraphError::ForbiddenGlobal {
                path: origin.to_owned(),
                global,
                advice,
            },
        };
        if torch::looks_like_zip(bytes) {
            torch::read_zip(bytes)
                .map(Content::StateDict)
                .map_err(refused)
        } else if torch::looks_like_pickle(bytes) {
            torch::read_legacy(bytes)
                .map(Content::StateDict)
                .map_err(refused)
        } else if header::looks_like_safetensors(bytes) {
            let container = header::parse(bytes).map_err(invalid)?;
            if container.metadata.contains_key(METADATA_KEY) {
                return Ok(Content::ModelFile);
            }
            safetensors::parameters(&container)
                .map(Content::StateDict)
                .map_err(invalid)
        } else if torch::looks_like_tar(bytes) {
            Err(invalid(
                "is a tar archive, as PyTorch wrote before 0.1.10; load it in an old PyTorch and \
                 torch.save its state_dict() again"
                    .into(),
            ))
        } else {
            Err(invalid(
                "is neither a file of torch.save nor a safetensors file: it is damaged, or of \
                 another kind"
                    .into(),
            ))
        }
    }
}
