//! The pieces that the architectures share.

use crate::error::GraphError;
use crate::graph::GraphBuilder;
use crate::op::{ConvAttributes, Op};

/// PyTorch's default, used by all published AdderNets.
const BN_EPS: f32 = 1e-5;

/// `bn` after `input`; its output is what the next layer reads.
pub(super) fn batch_norm(
    b: &mut GraphBuilder,
    name: String,
    channels: usize,
    input: &str,
) -> Result<String, GraphError> {
    b.add(
        name,
        Op::BatchNorm {
            channels,
            eps: BN_EPS,
        },
        &[input],
    )
}

/// A convolution (`adder` or ordinary) and the BN behind it.
pub(super) fn conv_bn(
    b: &mut GraphBuilder,
    op: Op,
    names: [String; 2],
    input: &str,
) -> Result<String, GraphError> {
    let channels = match &op {
        Op::AdderConv(ConvAttributes { out_channels, .. })
        | Op::Conv(ConvAttributes { out_channels, .. }) => *out_channels,
        other => {
            let [node, _] = names;
            let reason = format!("{} is not a convolution", other.kind());
            return Err(GraphError::InvalidNode { node, reason });
        }
    };
    let [conv_name, bn_name] = names;
    let conv = b.add(conv_name, op, &[input])?;
    batch_norm(b, bn_name, channels, &conv)
}

/// Shape of a residual block.
pub(super) struct Block {
    /// Prefix of the block's node names (`layer1.0`).
    pub(super) prefix: String,
    /// Channels of the block's input.
    pub(super) in_channels: usize,
    /// Channels of its output.
    pub(super) out_channels: usize,
    /// Stride of the block's first 3x3 layer and of its shortcut.
    pub(super) stride: usize,
    /// Whether the block has a 1x1 adder shortcut (`downsample.0`, `downsample.1`).
    pub(super) downsample: bool,
}

/// `convs` in a row (BN behind each, ReLU between them), plus the shortcut, then ReLU. This is
/// both the basic block (two 3x3) and the bottleneck (1x1, 3x3, 1x1) of He et al. 2016.
pub(super) fn residual(
    b: &mut GraphBuilder,
    block: &Block,
    convs: &[ConvAttributes],
    input: &str,
) -> Result<String, GraphError> {
    let prefix = &block.prefix;
    let mut x = input.to_owned();
    for (i, &conv) in convs.iter().enumerate() {
        let n = i + 1;
        let names = [format!("{prefix}.conv{n}"), format!("{prefix}.bn{n}")];
        x = conv_bn(b, Op::AdderConv(conv), names, &x)?;
        if n < convs.len() {
            x = b.add(format!("{prefix}.relu{n}"), Op::Relu, &[&x])?;
        }
    }
    let shortcut = if block.downsample {
        let conv =
            ConvAttributes::square(block.in_channels, block.out_channels, 1, block.stride, 0);
        let names = [
            format!("{prefix}.downsample.0"),
            format!("{prefix}.downsample.1"),
        ];
        conv_bn(b, Op::AdderConv(conv), names, input)?
    } else {
        input.to_owned()
    };
    let sum = b.add(format!("{prefix}.add"), Op::Add, &[&x, &shortcut])?;
    b.add(format!("{prefix}.relu"), Op::Relu, &[&sum])
}

/// The authors' classifier: global mean, 1x1 convolution `fc`, BN `bn2`.
pub(super) fn conv_classifier(
    b: &mut GraphBuilder,
    features: usize,
    classes: usize,
    bias: bool,
    input: &str,
) -> Result<(), GraphError> {
    let pooled = b.add("avgpool", Op::GlobalAvgPool, &[input])?;
    let fc = ConvAttributes {
        bias,
        ..ConvAttributes::square(features, classes, 1, 1, 0)
    };
    conv_bn(
        b,
        Op::Conv(fc),
        ["fc".to_owned(), "bn2".to_owned()],
        &pooled,
    )?;
    Ok(())
}
