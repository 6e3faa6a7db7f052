//! Residual networks for 32x32 images.

use super::blocks::{Block, conv_bn, conv_classifier, residual};
use crate::error::GraphError;
use crate::graph::{Graph, GraphBuilder, INPUT};
use crate::op::{ConvAttributes, Op};
use crate::shape::FeatureShape;

/// ResNet of 6·`blocks` + 2 layers (He et al. 2016, section 4.2) as the AdderNet authors built it:
/// three stages of 16, 32 and 64 channels, 1x1 adder shortcuts where the shape changes, classifier
/// `fc` + `bn2`.
pub(super) fn resnet(
    name: &str,
    blocks: usize,
    input: FeatureShape,
    classes: usize,
) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(name, input);
    let stem = Op::Conv(ConvAttributes::square(input.channels, 16, 3, 1, 1));
    let mut x = conv_bn(&mut b, stem, ["conv1".to_owned(), "bn1".to_owned()], INPUT)?;
    x = b.add("relu", Op::Relu, &[&x])?;
    let mut in_channels = 16;
    for (stage, out_channels) in [16, 32, 64].into_iter().enumerate() {
        for i in 0..blocks {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let block = Block {
                prefix: format!("layer{}.{i}", stage + 1),
                in_channels,
                out_channels,
                stride,
                downsample: stride != 1 || in_channels != out_channels,
            };
            let convs = [
                ConvAttributes::square(in_channels, out_channels, 3, stride, 1),
                ConvAttributes::square(out_channels, out_channels, 3, 1, 1),
            ];
            x = residual(&mut b, &block, &convs, &x)?;
            in_channels = out_channels;
        }
    }
    conv_classifier(&mut b, 64, classes, false, &x)?;
    b.build()
}
