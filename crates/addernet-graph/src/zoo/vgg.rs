//! VGG-small.

use super::blocks::conv_bn;
use crate::error::GraphError;
use crate::graph::{Graph, GraphBuilder, INPUT};
use crate::op::{ConvAttributes, Op, PoolAttributes};
use crate::shape::FeatureShape;

/// VGG-small (Cai et al., HWGQ, CVPR 2017, table 1): 3x3 convolutions of 128, 128, 256, 256, 512,
/// 512 kernels with BN and ReLU, a 2x2 max pool behind each pair, and one linear classifier.
pub(super) fn vgg_small(input: FeatureShape, classes: usize) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new("vgg-small", input);
    let mut x = INPUT.to_owned();
    let mut in_channels = input.channels;
    for (i, out_channels) in [128, 128, 256, 256, 512, 512].into_iter().enumerate() {
        let n = i + 1;
        let conv = ConvAttributes::square(in_channels, out_channels, 3, 1, 1);
        let op = if i == 0 {
            Op::Conv(conv)
        } else {
            Op::AdderConv(conv)
        };
        x = conv_bn(&mut b, op, [format!("conv{n}"), format!("bn{n}")], &x)?;
        x = b.add(format!("relu{n}"), Op::Relu, &[&x])?;
        if n % 2 == 0 {
            let pool = Op::MaxPool(PoolAttributes::square(2, 2, 0));
            x = b.add(format!("pool{}", n / 2), pool, &[&x])?;
        }
        in_channels = out_channels;
    }
    x = b.add("flatten", Op::Flatten, &[&x])?;
    let in_features = 512 * (input.height / 8) * (input.width / 8);
    b.add(
        "fc",
        Op::Linear {
            in_features,
            out_features: classes,
            bias: true,
        },
        &[&x],
    )?;
    b.build()
}
