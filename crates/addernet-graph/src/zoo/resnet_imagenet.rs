//! Residual networks for 224x224 images.

use super::blocks::{Block, conv_bn, conv_classifier, residual};
use crate::error::GraphError;
use crate::graph::{Graph, GraphBuilder, INPUT};
use crate::op::{ConvAttributes, Op, PoolAttributes};
use crate::shape::FeatureShape;

/// ResNet-18: two basic blocks per stage.
pub(super) fn resnet18(input: FeatureShape, classes: usize) -> Result<Graph, GraphError> {
    let basic = |in_channels, width, stride| {
        vec![
            ConvAttributes::square(in_channels, width, 3, stride, 1),
            ConvAttributes::square(width, width, 3, 1, 1),
        ]
    };
    resnet("resnet18", [2, 2, 2, 2], 1, basic, input, classes)
}

/// ResNet-50: 3, 4, 6, 3 bottlenecks; the stride is on the 3x3 layer, as in torchvision.
pub(super) fn resnet50(input: FeatureShape, classes: usize) -> Result<Graph, GraphError> {
    let bottleneck = |in_channels, width, stride| {
        vec![
            ConvAttributes::square(in_channels, width, 1, 1, 0),
            ConvAttributes::square(width, width, 3, stride, 1),
            ConvAttributes::square(width, 4 * width, 1, 1, 0),
        ]
    };
    resnet("resnet50", [3, 4, 6, 3], 4, bottleneck, input, classes)
}

/// 7x7/2 stem, 3x3/2 max pool, four stages of `blocks` blocks, classifier with bias and BN.
fn resnet(
    name: &str,
    blocks: [usize; 4],
    expansion: usize,
    convs: impl Fn(usize, usize, usize) -> Vec<ConvAttributes>,
    input: FeatureShape,
    classes: usize,
) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(name, input);
    let stem = Op::Conv(ConvAttributes::square(input.channels, 64, 7, 2, 3));
    let mut x = conv_bn(&mut b, stem, ["conv1".to_owned(), "bn1".to_owned()], INPUT)?;
    x = b.add("relu", Op::Relu, &[&x])?;
    x = b.add(
        "maxpool",
        Op::MaxPool(PoolAttributes::square(3, 2, 1)),
        &[&x],
    )?;
    let mut in_channels = 64;
    for (stage, (&count, width)) in blocks.iter().zip([64, 128, 256, 512]).enumerate() {
        for i in 0..count {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let out_channels = width * expansion;
            let block = Block {
                prefix: format!("layer{}.{i}", stage + 1),
                in_channels,
                out_channels,
                stride,
                downsample: stride != 1 || in_channels != out_channels,
            };
            x = residual(&mut b, &block, &convs(in_channels, width, stride), &x)?;
            in_channels = out_channels;
        }
    }
    conv_classifier(&mut b, 512 * expansion, classes, true, &x)?;
    b.build()
}
