//! One quantized adder layer.

use addernet_graph::ConvAttributes;
use serde::{Deserialize, Serialize};

use crate::format::CodeFormat;
use crate::observer::ActivationRange;

/// Kernels that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The scale S: the largest magnitude that the group's codes are meant for.
    pub scale: f32,
    /// Number of grid units that S is divided into; at least 1.
    pub levels: u16,
}

impl Group {
    /// Worth of one grid unit, shared by the group's weights and its activations: S/levels.
    pub fn step(self) -> f32 {
        self.scale / f32::from(self.levels)
    }
}

/// An adder layer in integers: with q_x and q_w the codes, m_x and m_w their formats' multipliers,
///
/// y\[o\] = −step · Σ |m_x·q_x − m_w·q_w| + bias\[o\],
/// q_x = clamp(round(x/(m_x·step))),
///
/// where step is that of kernel o's group. Padded taps have q_x = 0.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayer {
    /// How weight codes are to be read.
    pub weight_format: CodeFormat,
    /// How activation codes are to be read.
    pub activation_format: CodeFormat,
    /// The groups; never empty.
    pub groups: Vec<Group>,
    /// Each kernel's group, O indices.
    pub group_of: Vec<usize>,
    /// Weight codes, OIHW.
    pub codes: Vec<i32>,
    /// What the clamps moved out of the sum, O values.
    pub bias: Vec<f32>,
    /// What calibration saw at the layer's input.
    pub range: ActivationRange,
}

impl QuantizedLayer {
    /// Codes per kernel: C·Kh·Kw.
    pub fn taps(&self) -> usize {
        self.codes.len() / self.group_of.len().max(1)
    }

    /// The group of kernel `o`.
    pub fn group(&self, o: usize) -> Group {
        self.groups[self.group_of[o]]
    }

    /// The weights that the codes stand for, OIHW.
    pub fn dequantized(&self) -> Vec<f32> {
        let taps = self.taps();
        let value = |(i, &code): (usize, &i32)| {
            self.weight_format.units(code) as f32 * self.group(i / taps).step()
        };
        self.codes.iter().enumerate().map(value).collect()
    }

    /// Share of weight codes at the ends of their range, 0 to 1.
    pub fn saturated(&self) -> f64 {
        let (min, max) = (self.weight_format.min(), self.weight_format.max());
        let count = self
            .codes
            .iter()
            .filter(|&&code| code == min || code == max)
            .count();
        count as f64 / self.codes.len() as f64
    }

    /// `Err(reason)` unless all parts fit each other and a layer with these attributes.
    pub(crate) fn check(&self, attributes: &ConvAttributes) -> Result<(), String> {
        self.weight_format.check()?;
        self.activation_format.check()?;
        let kernels = attributes.out_channels;
        let weights: usize = attributes.weight_shape().iter().product();
        for (what, expected, found) in [
            ("weight codes", weights, self.codes.len()),
            ("group indices", kernels, self.group_of.len()),
            ("biases", kernels, self.bias.len()),
        ] {
            if expected != found {
                return Err(format!("expected {expected} {what}, found {found}"));
            }
        }
        if let Some(group) = self
            .groups
            .iter()
            .find(|g| !(g.step().is_finite() && g.step() >= f32::MIN_POSITIVE))
        {
            let Group { scale, levels } = group;
            return Err(format!(
                "a scale of {scale} in {levels} levels has no positive step"
            ));
        }
        if let Some(index) = self
            .group_of
            .iter()
            .find(|&&index| index >= self.groups.len())
        {
            return Err(format!("group {index} of {}", self.groups.len()));
        }
        let (min, max) = (self.weight_format.min(), self.weight_format.max());
        if let Some(code) = self.codes.iter().find(|&&code| code < min || code > max) {
            return Err(format!("weight code {code} is outside {min}..={max}"));
        }
        match self.bias.iter().find(|b| !b.is_finite()) {
            Some(bias) => Err(format!("bias {bias} is not finite")),
            None => Ok(()),
        }
    }
}
