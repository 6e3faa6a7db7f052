//! Quantization methods: one file each, chosen by name.
//!
//! A method turns one float layer and the range of its activations into a [`QuantizedLayer`]. To add
//! one, write a file with a type that implements [`Method`] and list it in [`MethodKind`].

mod redistribution;
mod shared_scale;

use std::str::FromStr;

use addernet_graph::ConvAttributes;
use serde::{Deserialize, Serialize};

pub use redistribution::Redistribution;
pub use shared_scale::SharedScale;

use crate::error::QuantError;
use crate::layer::QuantizedLayer;
use crate::observer::ActivationRange;

/// One float layer, as a method sees it.
#[derive(Clone, Copy, Debug)]
pub struct FloatLayer<'a> {
    /// The node's name, for errors.
    pub node: &'a str,
    /// Shapes.
    pub attributes: &'a ConvAttributes,
    /// Weights, OIHW.
    pub weights: &'a [f32],
    /// The bias the layer already has (O), or empty.
    pub bias: &'a [f32],
    /// Whether the layer's input is non-negative whatever the image (it is behind a ReLU).
    pub non_negative_input: bool,
    /// What calibration saw at the layer's input.
    pub range: ActivationRange,
}

impl FloatLayer<'_> {
    /// Weights per kernel: C·Kh·Kw.
    pub fn taps(&self) -> usize {
        self.weights.len() / self.attributes.out_channels
    }

    /// The largest magnitude among each kernel's weights, O values.
    pub fn kernel_ranges(&self) -> Vec<f32> {
        let range = |kernel: &[f32]| kernel.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        self.weights.chunks_exact(self.taps()).map(range).collect()
    }

    /// The layer's bias, or zeros.
    pub fn bias_or_zeros(&self) -> Vec<f32> {
        match self.bias {
            [] => vec![0.0; self.attributes.out_channels],
            bias => bias.to_vec(),
        }
    }
}

/// A way to quantize an adder layer.
pub trait Method {
    /// Quantizes one layer.
    ///
    /// # Errors
    /// If the layer cannot be quantized with the method's settings.
    fn quantize(&self, layer: &FloatLayer<'_>) -> Result<QuantizedLayer, QuantError>;
}

/// The methods by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodKind {
    /// [`Redistribution`]: Nie et al., NeurIPS 2022.
    Redistribution,
    /// [`SharedScale`]: Wang et al. 2021.
    SharedScale,
}

impl MethodKind {
    /// All methods.
    pub const ALL: [MethodKind; 2] = [MethodKind::Redistribution, MethodKind::SharedScale];

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            MethodKind::Redistribution => "redistribution",
            MethodKind::SharedScale => "shared-scale",
        }
    }
}

impl std::fmt::Display for MethodKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MethodKind {
    type Err = QuantError;

    fn from_str(name: &str) -> Result<Self, QuantError> {
        MethodKind::ALL
            .into_iter()
            .find(|m| m.name() == name)
            .ok_or_else(|| {
                let known = MethodKind::ALL.map(MethodKind::name).join(", ");
                QuantError::config("method", format!("`{name}` is unknown; known: {known}"))
            })
    }
}

#[cfg(test)]
mod tests;
