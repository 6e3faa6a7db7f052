//! BN as an affine function.

use addernet_graph::{Model, Node};

use crate::error::EngineError;

/// y = gain·x + offset per channel, with the statistics that it comes from.
pub(super) struct BatchNorm {
    pub(super) gain: Vec<f64>,
    pub(super) mean: Vec<f64>,
    /// |weight| is the standard deviation of the output.
    pub(super) weight: Vec<f64>,
    /// The mean of the output.
    pub(super) bias: Vec<f64>,
}

impl BatchNorm {
    pub(super) fn of(model: &Model, node: &Node, eps: f32) -> Result<Self, EngineError> {
        let values = |suffix: &str| -> Result<Vec<f64>, EngineError> {
            Ok(model
                .values(node, suffix)?
                .iter()
                .map(|&v| f64::from(v))
                .collect())
        };
        let (weight, bias) = (values("weight")?, values("bias")?);
        let (mean, var) = (values("running_mean")?, values("running_var")?);
        let gain = weight
            .iter()
            .zip(&var)
            .map(|(weight, var)| weight / (var + f64::from(eps)).sqrt())
            .collect();
        Ok(Self {
            gain,
            mean,
            weight,
            bias,
        })
    }

    /// What is added after the multiplication, in channel `c`.
    pub(super) fn offset(&self, c: usize) -> f64 {
        self.bias[c] - self.mean[c] * self.gain[c]
    }
}
