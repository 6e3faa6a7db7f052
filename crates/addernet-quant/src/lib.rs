//! Post-training quantization of AdderNets.
//!
//! The way through it: [`calibrate`] observes the activations of a float model, a [`Method`] turns
//! each adder layer into a [`QuantizedLayer`], [`QuantizedModel::quantize`] puts them together,
//! [`reestimate_bn`] adapts BN, [`Simulator`] runs the result, [`store`] keeps it in a model file.
//! [`sensitivity`] tells what each layer alone costs. [`clamp_weights`] alone is the exact range clamp of a float model.

mod bn;
mod clamp;
mod error;
mod format;
mod group;
mod layer;
mod method;
mod mixed;
mod model;
mod nudge;
mod observer;
mod ordinary;
mod reconstruct;
mod sensitivity;
mod simulate;
pub mod store;
#[cfg(test)]
mod testing;

pub use bn::{reestimate_bn, reestimate_float_bn};
pub use clamp::{clamp_kernel, clamp_weights};
pub use error::QuantError;
pub use format::{BITS, CodeFormat};
pub use group::{MAX_GROUPS, group_kernels};
pub use layer::{Group, QuantizedLayer};
pub use method::{ActivationOriented, FloatLayer, Method, MethodKind, Redistribution, SharedScale};
pub use mixed::{Choice, allocate};
pub use model::{Provenance, QuantizedModel, quantize_layers};
pub use nudge::nudge;
pub use observer::{ActivationRange, Observations, PUBLISHED_OUTLIER_QUANTILE, calibrate};
pub use ordinary::{OrdinaryKernel, round_ordinary};
pub use reconstruct::{
    Kernels, Learned, Learner, Reconstruction, ReconstructionProgress, TrainingImages, Tuning,
    reconstruct,
};
pub use sensitivity::{Effect, LayerSensitivity, Sensitivity, SensitivityProbe, sensitivity};
pub use simulate::Simulator;
