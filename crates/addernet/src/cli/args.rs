//! Flags that several verbs share.

use std::path::PathBuf;

use addernet::kernels::{self, AdderKernelF32};
#[cfg(feature = "train")]
use addernet::train::TrainDevice;
use addernet::{
    AnyModel, Architecture, DatasetKind, Images, ImportOptions, MethodKind, Model, Split,
};
use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};

/// The model.
#[derive(Args)]
pub(crate) struct ModelArgs {
    /// Checkpoint (.pth, .pt, .safetensors) or model file
    pub(crate) model: PathBuf,

    /// Architecture of a checkpoint, if it is not recognised from its parameters
    #[arg(long, value_name = "NAME", value_parser = architecture())]
    pub(crate) arch: Option<Architecture>,
}

impl ModelArgs {
    pub(crate) fn open(&self) -> anyhow::Result<AnyModel> {
        let options = ImportOptions {
            architecture: self.arch,
            ..ImportOptions::default()
        };
        Ok(AnyModel::open(&self.model, &options)?)
    }
}

/// The data set, where one is needed.
#[derive(Args)]
pub(crate) struct DataArgs {
    /// Data set; `shapes` is generated and needs no files
    #[arg(long, value_name = "NAME", value_parser = dataset())]
    pub(crate) dataset: DatasetKind,

    #[command(flatten)]
    pub(crate) place: DataPlace,
}

/// Where a data set is, and how it is read.
#[derive(Args)]
pub(crate) struct DataPlace {
    /// Folder with the data set's files, or the parent of that folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Image folders: shorter side of the images before the centre is cut out [default: 256 for every
    /// 224 pixels of the network's input]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) resize: Option<u32>,
}

impl DataPlace {
    pub(crate) fn open(
        &self,
        kind: DatasetKind,
        model: &Model,
        split: Split,
    ) -> anyhow::Result<Images> {
        Ok(Images::open(
            model,
            kind,
            self.data_dir.as_deref(),
            split,
            self.resize,
        )?)
    }
}

/// How a verb runs and reports.
#[derive(Args, Clone)]
pub(crate) struct RunArgs {
    /// Number of threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads())]
    pub(crate) threads: Option<usize>,

    /// Variant of the L1 operator; `addernet bench kernels` lists them [default: $ADDERNET_KERNEL, or
    /// the best one for this CPU]
    #[arg(long, value_name = "NAME")]
    pub(crate) kernel: Option<String>,

    /// Seed of all random choices: the same seed gives the same result
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Print one JSON object on standard output, and nothing else there
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the flags in [`RunArgs`] come to.
pub(crate) struct Runtime {
    pub(crate) kernel: &'static dyn AdderKernelF32,
    pub(crate) threads: usize,
}

impl RunArgs {
    /// Chooses the operator and starts the threads. Once per process.
    pub(crate) fn start(&self) -> anyhow::Result<Runtime> {
        let kernel = kernels::select(self.kernel.as_deref())?;
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.unwrap_or(0))
            .build_global()
            .context("cannot start the threads; ask for fewer with --threads")?;
        Ok(Runtime {
            kernel,
            threads: rayon::current_num_threads(),
        })
    }
}

/// Far above any machine; a typing error should not start a million threads.
const MOST_THREADS: u64 = 1024;

pub(crate) fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MOST_THREADS)
}

#[cfg(feature = "train")]
pub(crate) fn device() -> impl TypedValueParser<Value = TrainDevice> {
    PossibleValuesParser::new(TrainDevice::ALL.map(TrainDevice::as_str))
        .try_map(|name| name.parse::<TrainDevice>())
}

/// A number of images, at least `least`.
pub(crate) fn count(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..)
}

pub(crate) fn dataset() -> impl TypedValueParser<Value = DatasetKind> {
    PossibleValuesParser::new(DatasetKind::ALL.map(DatasetKind::as_str))
        .try_map(|name| name.parse::<DatasetKind>())
}

pub(crate) fn split() -> impl TypedValueParser<Value = Split> {
    PossibleValuesParser::new([Split::Test, Split::Train].map(Split::as_str))
        .try_map(|name| name.parse::<Split>())
}

pub(crate) fn architecture() -> impl TypedValueParser<Value = Architecture> {
    PossibleValuesParser::new(Architecture::ALL.map(Architecture::name))
        .try_map(|name| name.parse::<Architecture>())
}

/// A method by its name, or `auto`.
pub(crate) fn method() -> impl TypedValueParser<Value = MethodKind> {
    let names = MethodKind::ALL.map(MethodKind::name);
    PossibleValuesParser::new([MethodKind::AUTO].into_iter().chain(names))
        .try_map(|name| name.parse::<MethodKind>())
}

/// Bits of weights and of activations: `4` for both, or `2/4`.
pub(crate) fn bits_pair(text: &str) -> Result<[u8; 2], String> {
    let (weights, activations) = text.split_once('/').unwrap_or((text, text));
    let bits = |text: &str| match text.parse::<u8>() {
        Ok(bits) if addernet::quant::BITS.contains(&bits) => Ok(bits),
        _ => Err("bits are 2 to 8: 4, or 2/4 for weights of 2 and activations of 4".to_owned()),
    };
    Ok([bits(weights)?, bits(activations)?])
}

/// A number of groups.
pub(crate) fn groups() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=addernet::quant::MAX_GROUPS as u64)
}
