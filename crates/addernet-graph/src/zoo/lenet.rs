//! LeNet-5 with batch normalisation.

use super::blocks::{batch_norm, conv_bn};
use crate::error::GraphError;
use crate::graph::{Graph, GraphBuilder};
use crate::op::{ConvAttributes, Op, PoolAttributes};
use crate::shape::FeatureShape;

/// LeNet-5 (LeCun et al. 1998) with BN and ReLU behind each hidden layer: 5x5 convolutions of 6,
/// 16 and 120 kernels, then 84 features and the classifier. The first convolution and the
/// classifier are ordinary layers, `conv2`, `conv3` and `fc1` (a 1x1 adder convolution on the
/// 1x1 map) are adder layers.
pub(super) fn lenet5_bn(input: FeatureShape, classes: usize) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new("lenet5-bn", input);
    let conv = |i, o| ConvAttributes::square(i, o, 5, 1, 0);
    let layers = [
        ("conv1", Op::Conv(conv(input.channels, 6)), true),
        ("conv2", Op::AdderConv(conv(6, 16)), true),
        ("conv3", Op::AdderConv(conv(16, 120)), false),
    ];
    let mut x = crate::graph::INPUT.to_owned();
    for (i, (name, op, pool)) in layers.into_iter().enumerate() {
        let n = i + 1;
        x = conv_bn(&mut b, op, [name.to_owned(), format!("bn{n}")], &x)?;
        x = b.add(format!("relu{n}"), Op::Relu, &[&x])?;
        if pool {
            x = b.add(
                format!("pool{n}"),
                Op::MaxPool(PoolAttributes::square(2, 2, 0)),
                &[&x],
            )?;
        }
    }
    // The map is 1x1 for 32x32 images; for larger ones flattening keeps every position.
    x = b.add("flatten", Op::Flatten, &[&x])?;
    let features = 120 * flattened_positions(input);
    x = b.add(
        "fc1",
        Op::AdderConv(ConvAttributes::square(features, 84, 1, 1, 0)),
        &[&x],
    )?;
    x = batch_norm(&mut b, "bn4".to_owned(), 84, &x)?;
    x = b.add("relu4", Op::Relu, &[&x])?;
    b.add(
        "fc2",
        Op::Linear {
            in_features: 84,
            out_features: classes,
            bias: true,
        },
        &[&x],
    )?;
    b.build()
}

/// Positions of `conv3`'s output map.
fn flattened_positions(input: FeatureShape) -> usize {
    let extent = |e: usize| (e.saturating_sub(4) / 2).saturating_sub(4) / 2;
    extent(input.height).saturating_sub(4) * extent(input.width).saturating_sub(4)
}
