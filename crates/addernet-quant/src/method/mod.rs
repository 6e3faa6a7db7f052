//! Quantization methods: one file each, chosen by name.
//!
//! A method turns one float layer and the range of its activations into a [`QuantizedLayer`]. To add
//! one, write a file with a type that implements [`Method`] and list it in [`MethodKind`]. The one method
//! that looks at more than a layer at a time, [`reconstruct`](crate::reconstruct()), has a folder of its
//! own.

mod activation_oriented;
mod redistribution;
mod shared_scale;

use std::str::FromStr;

use addernet_graph::{ConvAttributes, Model, Node};
use serde::{Deserialize, Serialize};

pub use activation_oriented::ActivationOriented;
pub(crate) use activation_oriented::Grid;
pub use redistribution::Redistribution;
pub use shared_scale::SharedScale;

use crate::error::QuantError;
use crate::layer::QuantizedLayer;
use crate::observer::{ActivationRange, Observations};

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

impl<'a> FloatLayer<'a> {
    /// The adder layer `node` of `model`, whose attributes are given.
    ///
    /// # Errors
    /// If it was not calibrated, or a parameter is missing.
    pub fn new(
        model: &'a Model,
        node: &'a Node,
        attributes: &'a ConvAttributes,
        observations: &Observations,
    ) -> Result<Self, QuantError> {
        let nodes = model.graph().nodes();
        Ok(Self {
            node: node.name(),
            attributes,
            weights: model.values(node, "adder")?,
            bias: match attributes.bias {
                true => model.values(node, "bias")?,
                false => &[],
            },
            non_negative_input: (node.inputs().iter()).all(|&input| nodes[input].is_non_negative()),
            range: observations.range(node.name())?,
        })
    }

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
    /// [`Reconstruction`](crate::Reconstruction): ours, and what `auto` stands for.
    Reconstruction,
    /// [`ActivationOriented`]: AdderNet 2.0, DAC 2024.
    ActivationOriented,
    /// [`SharedScale`]: Wang et al. 2021.
    SharedScale,
}

impl MethodKind {
    /// All methods.
    pub const ALL: [MethodKind; 4] = [
        MethodKind::Reconstruction,
        MethodKind::Redistribution,
        MethodKind::ActivationOriented,
        MethodKind::SharedScale,
    ];

    /// The method that [`AUTO`](Self::AUTO) stands for: the most accurate one.
    pub const BEST: MethodKind = MethodKind::Reconstruction;

    /// The name that stands for the recommended method, whichever that is.
    pub const AUTO: &str = "auto";

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            MethodKind::Reconstruction => "reconstruction",
            MethodKind::Redistribution => "redistribution",
            MethodKind::ActivationOriented => "activation-oriented",
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
        if name == MethodKind::AUTO {
            return Ok(MethodKind::BEST);
        }
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
