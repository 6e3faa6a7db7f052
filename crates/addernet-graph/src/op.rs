//! The operations a node can perform, and the parameters each of them owns.

use serde::{Deserialize, Serialize};

/// Sliding-window geometry shared by convolutions: `[vertical, horizontal]` pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvAttributes {
    /// Input channels C.
    pub in_channels: usize,
    /// Output channels O (the number of kernels).
    pub out_channels: usize,
    /// Kernel size `[Kh, Kw]`.
    pub kernel: [usize; 2],
    /// Stride `[Sh, Sw]`.
    pub stride: [usize; 2],
    /// Zero padding on each side `[Ph, Pw]`.
    pub padding: [usize; 2],
    /// Whether a per-output-channel bias `<node>.bias` is added.
    pub bias: bool,
}

impl ConvAttributes {
    /// A square convolution without bias.
    pub fn square(
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
            bias: false,
        }
    }

    /// The same convolution with a bias.
    pub fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// Shape of the weight, OIHW.
    pub fn weight_shape(&self) -> [usize; 4] {
        [
            self.out_channels,
            self.in_channels,
            self.kernel[0],
            self.kernel[1],
        ]
    }
}

/// Window of a pooling layer: `[vertical, horizontal]` pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolAttributes {
    /// Window size.
    pub kernel: [usize; 2],
    /// Stride.
    pub stride: [usize; 2],
    /// Padding on each side: −∞ for max pooling, zeros that count in the mean for average pooling.
    pub padding: [usize; 2],
}

impl PoolAttributes {
    /// A square window.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
        }
    }
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Op {
    /// The image batch itself. Exactly one node, the first.
    Input,
    /// y = −Σ|x − w| (+ bias). Parameters `<node>.adder` (OIHW), `<node>.bias` (O) if any.
    AdderConv(ConvAttributes),
    /// Ordinary convolution (cross-correlation). Parameters `<node>.weight` (OIHW), `<node>.bias`.
    Conv(ConvAttributes),
    /// y = weight·(x − running_mean)/√(running_var + eps) + bias, per channel.
    BatchNorm {
        /// Number of channels.
        channels: usize,
        /// Added to the variance before the square root.
        eps: f32,
    },
    /// max(x, 0).
    Relu,
    /// Element-wise sum of two inputs of the same shape.
    Add,
    /// Maximum over a window.
    MaxPool(PoolAttributes),
    /// Mean over a window.
    AvgPool(PoolAttributes),
    /// Mean over the whole feature map.
    GlobalAvgPool,
    /// Feature map to vector, in PyTorch's order (channel, row, column).
    Flatten,
    /// y = W·x + b on a vector. Parameters `<node>.weight` (out, in), `<node>.bias`.
    Linear {
        /// Length of the input vector.
        in_features: usize,
        /// Length of the output vector.
        out_features: usize,
        /// Whether a bias is added.
        bias: bool,
    },
}

impl Op {
    /// Number of inputs that the operation takes.
    pub fn arity(&self) -> usize {
        match self {
            Op::Input => 0,
            Op::Add => 2,
            _ => 1,
        }
    }

    /// The operation's name, as in model files.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::AdderConv(_) => "adder-conv",
            Op::Conv(_) => "conv",
            Op::BatchNorm { .. } => "batch-norm",
            Op::Relu => "relu",
            Op::Add => "add",
            Op::MaxPool(_) => "max-pool",
            Op::AvgPool(_) => "avg-pool",
            Op::GlobalAvgPool => "global-avg-pool",
            Op::Flatten => "flatten",
            Op::Linear { .. } => "linear",
        }
    }

    /// The parameters the operation owns: `(suffix, shape)`, in PyTorch's order.
    pub fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        let conv = |suffix, conv: &ConvAttributes| {
            let mut list = vec![(suffix, conv.weight_shape().to_vec())];
            if conv.bias {
                list.push(("bias", vec![conv.out_channels]));
            }
            list
        };
        match self {
            Op::AdderConv(attributes) => conv("adder", attributes),
            Op::Conv(attributes) => conv("weight", attributes),
            Op::BatchNorm { channels, .. } => ["weight", "bias", "running_mean", "running_var"]
                .into_iter()
                .map(|suffix| (suffix, vec![*channels]))
                .collect(),
            Op::Linear {
                in_features,
                out_features,
                bias,
            } => {
                let mut list = vec![("weight", vec![*out_features, *in_features])];
                if *bias {
                    list.push(("bias", vec![*out_features]));
                }
                list
            }
            _ => Vec::new(),
        }
    }
}
