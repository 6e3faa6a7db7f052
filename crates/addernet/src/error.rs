//! The facade's error type.

use std::path::PathBuf;

use addernet_cost::CostError;
use addernet_data::{DataError, DatasetKind};
use addernet_engine::EngineError;
use addernet_graph::GraphError;
use addernet_kernels::KernelError;
use addernet_quant::QuantError;

/// Everything that can go wrong on the way from files to figures. Each message is one line that says
/// what, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A graph, its parameters or its file.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Quantization.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The integer engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Operations, memory and energy.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The L1 operator.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The data set's images are not of the network's input size.
    #[error(
        "the network `{graph}` takes images of {expected} (height x width x channels), but {dataset} has \
         {found}: choose the data set it was trained on"
    )]
    ImageShape {
        /// The graph's name.
        graph: String,
        /// What the graph takes.
        expected: String,
        /// The data set.
        dataset: DatasetKind,
        /// What the data set has, after its own preparation.
        found: String,
    },
    /// The data set has other classes than the network.
    #[error(
        "the network `{graph}` tells {expected} classes apart, but {dataset} has {found}: choose the data \
         set it was trained on"
    )]
    Classes {
        /// The graph's name.
        graph: String,
        /// The number of logits.
        expected: usize,
        /// The data set.
        dataset: DatasetKind,
        /// Its number of classes.
        found: usize,
    },
    /// A network gave NaN or an infinity for an image.
    #[error(
        "image {image} of the {split} split of {dataset}{file}: the network's logits are not finite; the \
         model is damaged, or was trained with another normalisation of the images"
    )]
    NonFiniteLogits {
        /// The image's place in the split.
        image: usize,
        /// The split.
        split: addernet_data::Split,
        /// The data set.
        dataset: DatasetKind,
        /// ` (path)` where each image is a file, else empty.
        file: String,
    },
    /// An image's pixels or its normalisation do not fit the network.
    #[error(
        "the network `{graph}` takes images of {input} (height x width x channels), but {pixels} pixel \
         values and the normalisation of {channels} channel(s) were given"
    )]
    Pixels {
        /// The graph's name.
        graph: String,
        /// What the graph takes.
        input: String,
        /// Number of values given.
        pixels: usize,
        /// Number of channels that the normalisation has.
        channels: usize,
    },
    /// A network gave NaN or an infinity for an image file.
    #[error(
        "{}: the network's logits are not finite; the model is damaged, or was trained with another \
         normalisation of the images", path.display()
    )]
    NonFinitePrediction {
        /// The file.
        path: PathBuf,
    },
    /// A quantized model was to be compared with a float model of another network.
    #[error(
        "the float model is a `{reference}` whose adder layers are not those of the quantized `{graph}`: \
         give the one it was made from"
    )]
    Reference {
        /// The quantized model's graph.
        graph: String,
        /// The float model's graph.
        reference: String,
    },
    /// There is nothing to evaluate.
    #[error("no image to evaluate: ask for at least one")]
    NoImages,
    /// The operating system gave no threads.
    #[error("cannot start {threads} threads: {source}; ask for fewer")]
    Threads {
        /// The number asked for.
        threads: usize,
        /// The reason.
        source: rayon::ThreadPoolBuildError,
    },
}
