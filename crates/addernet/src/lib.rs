//! Quantize and run multiplication-free neural networks.
//!
//! An AdderNet (Chen et al., CVPR 2020) replaces the products of a convolution by sums of absolute
//! differences, `y = −Σ|x − w|`. This crate puts the workspace's crates together:
//!
//! - [`AnyModel`] opens a PyTorch checkpoint or a model file, float or quantized;
//! - [`evaluate`](evaluate()) measures the accuracy of a [`Classifier`] on [`Images`];
//! - [`quantize`](quantize()) is the whole post-training quantization, from training images to a
//!   [`QuantizedModel`];
//! - [`predict`](predict()) classifies image files; [`Engine`] runs a quantized model on integers alone;
//! - [`inspect`](inspect()) reports on every adder layer, [`analyze`](analyze()) on its distributions and
//!   on what quantizing it alone costs;
//! - [`cost`](cost()) counts operations, bytes and energy per image, beside the same network as a CNN;
//! - [`SweepContext`] quantizes a model in many ways and evaluates each, [`SweepTable`] sums it up.
//!
//! The command `addernet` is these functions behind flags. What they are made of is in
//! [`kernels`], [`graph`], [`data`], [`quant`], [`engine`] and [`cost_model`].
//!
//! ```no_run
//! use addernet::{AnyModel, DatasetKind, Executor, Images, ImportOptions, Split, evaluate};
//!
//! let path = "resnet20.pth".as_ref();
//! let model = AnyModel::open(path, &ImportOptions::default())?;
//! let model = model.float();
//! let images = Images::open(model, DatasetKind::Cifar10, Some("data".as_ref()), Split::Test, None)?;
//! let executor = Executor::new(model, addernet::kernels::select(None)?)?;
//! let accuracy = evaluate(&executor, &images, &images.first(None), &())?.accuracy;
//! println!("top-1 {:.2} %", 100.0 * accuracy.top1);
//! # Ok::<(), addernet::Error>(())
//! ```

mod ablation;
mod analyze;
mod any_model;
mod cost;
mod error;
mod evaluate;
mod images;
mod inspect;
mod mixed_precision;
mod predict;
mod progress;
mod quantize;
mod spread;
mod sweep;
#[cfg(test)]
#[path = "../tests/cli/model.rs"]
mod testing;

pub use addernet_cost as cost_model;
pub use addernet_data as data;
pub use addernet_engine as engine;
pub use addernet_graph as graph;
pub use addernet_kernels as kernels;
pub use addernet_quant as quant;
#[cfg(feature = "train")]
pub use addernet_train as train;

pub use ablation::Ablation;
pub use addernet_cost::{AdderForm, Comparison, Energy, EnergyModel, LayerEnergies, Precision};
pub use addernet_data::{Dataset, DatasetKind, Split};
pub use addernet_engine::{Engine, Logits};
pub use addernet_graph::import::ImportOptions;
pub use addernet_graph::zoo::Architecture;
pub use addernet_graph::{Executor, Graph, Model};
pub use addernet_quant::{
    ActivationOriented, MethodKind, QuantizedModel, Reconstruction, Redistribution, SharedScale,
    Simulator, Tuning,
};

pub use analyze::{
    Analysis, AnalyzeOptions, Axis, CodeHistogram, Distribution, SensitivityReport, analyze,
};
pub use any_model::AnyModel;
pub use cost::{CostOptions, CostReport, cost};
pub use error::Error;
pub use evaluate::{Accuracy, Classifier, Evaluation, evaluate};
pub use images::Images;
pub use inspect::{
    AccumulatorReport, ActivationReport, BiasReport, HeadroomReport, LayerReport, ModelReport,
    QuantizationReport, WeightShares, inspect,
};
pub use mixed_precision::{BitAllocation, Budget, LayerAllocation};
pub use predict::{ClassScore, Prediction, load_pixels, predict};
pub use progress::{Progress, Stage};
pub use quantize::{
    CALIBRATION_BATCH, MethodSettings, Quantization, QuantizeOptions, observe, quantize,
};
pub use spread::Spread;
pub use sweep::{
    CellAccuracy, CellResult, Figures, RowCost, SweepCell, SweepContext, SweepEngine, SweepGrid,
    SweepRow, SweepTable, method_settings,
};
