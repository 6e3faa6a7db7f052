//! Shape inference: from the input image to every node's output.

use serde::{Deserialize, Serialize};

use crate::error::GraphError;
use crate::op::Op;

/// Upper bound on any extent of a graph; far above real networks, it keeps products in range.
const MAX_EXTENT: usize = 1 << 20;
/// Upper bound on the values of one feature map or one parameter (4 GiB as f32).
const MAX_VALUES: usize = 1 << 30;

/// Shape of one image's feature map. A vector of F features is F x 1 x 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureShape {
    /// Channels C.
    pub channels: usize,
    /// Rows H.
    pub height: usize,
    /// Columns W.
    pub width: usize,
}

impl FeatureShape {
    /// A feature map of `channels` x `height` x `width`.
    pub fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    /// Number of values.
    pub fn values(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// `Err(reason)` unless every extent is in `1..=2^20` and the product at most 2^30.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_extents(&[self.channels, self.height, self.width])
    }
}

impl std::fmt::Display for FeatureShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// `Err(reason)` unless every extent is in `1..=2^20` and their product at most 2^30: what
/// follows can multiply and allocate without overflow.
pub(crate) fn check_extents(extents: &[usize]) -> Result<(), String> {
    if let Some(extent) = extents.iter().find(|&&e| e == 0 || e > MAX_EXTENT) {
        return Err(format!(
            "an extent of {extent} in {extents:?} is outside 1..={MAX_EXTENT}"
        ));
    }
    let values = extents.iter().try_fold(1usize, |product, &e| {
        product
            .checked_mul(e)
            .filter(|&values| values <= MAX_VALUES)
    });
    values
        .map(|_| ())
        .ok_or_else(|| format!("{extents:?} has more than {MAX_VALUES} values"))
}

/// Output extent of a window of `kernel` sliding over `input` with `stride` and `padding` per side.
fn window(
    axis: &str,
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Result<usize, String> {
    check_extents(&[kernel])?;
    check_extents(&[stride])?;
    check_extents(&[padding.saturating_add(1)])?;
    let padded = input + 2 * padding;
    if kernel > padded {
        return Err(format!(
            "{axis} window {kernel} is larger than the padded input {padded} ({input} + 2·{padding})"
        ));
    }
    Ok((padded - kernel) / stride + 1)
}

/// Shape of the output of `op` applied to `inputs`. Errors name `node`.
pub(crate) fn infer(
    node: &str,
    op: &Op,
    inputs: &[FeatureShape],
    input_shape: FeatureShape,
) -> Result<FeatureShape, GraphError> {
    infer_inner(op, inputs, input_shape)
        .and_then(|shape| shape.check().map(|()| shape))
        .map_err(|reason| GraphError::InvalidNode {
            node: node.to_owned(),
            reason,
        })
}

fn infer_inner(
    op: &Op,
    inputs: &[FeatureShape],
    input_shape: FeatureShape,
) -> Result<FeatureShape, String> {
    let channels = |expected: usize| {
        let got = inputs[0].channels;
        if got == expected {
            Ok(())
        } else {
            Err(format!(
                "expects {expected} input channels, its input has {got}"
            ))
        }
    };
    let slide = |kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]| {
        let FeatureShape {
            channels,
            height,
            width,
        } = inputs[0];
        let shape = (
            window("vertical", height, kernel[0], stride[0], padding[0])?,
            window("horizontal", width, kernel[1], stride[1], padding[1])?,
        );
        // The operators copy their input with its padding around it.
        check_extents(&[height + 2 * padding[0], width + 2 * padding[1], channels])
            .map_err(|reason| format!("with its padding, its input is too large: {reason}"))?;
        Ok::<_, String>(shape)
    };
    match op {
        Op::Input => Ok(input_shape),
        Op::AdderConv(conv) | Op::Conv(conv) => {
            channels(conv.in_channels)?;
            check_extents(&conv.weight_shape())?;
            let (height, width) = slide(conv.kernel, conv.stride, conv.padding)?;
            Ok(FeatureShape::new(conv.out_channels, height, width))
        }
        Op::BatchNorm {
            channels: expected,
            eps,
        } => {
            channels(*expected)?;
            if !(eps.is_finite() && *eps > 0.0) {
                return Err(format!("eps must be a positive number, got {eps}"));
            }
            Ok(inputs[0])
        }
        Op::Relu => Ok(inputs[0]),
        Op::Add if inputs[0] == inputs[1] => Ok(inputs[0]),
        Op::Add => Err(format!("cannot add {} and {}", inputs[0], inputs[1])),
        Op::MaxPool(pool) | Op::AvgPool(pool) => {
            // A window that lies in the padding alone would have no maximum.
            if (0..2).any(|axis| pool.padding[axis] > pool.kernel[axis] / 2) {
                let (padding, kernel) = (pool.padding, pool.kernel);
                return Err(format!(
                    "padding {padding:?} is more than half of the window {kernel:?}"
                ));
            }
            let (height, width) = slide(pool.kernel, pool.stride, pool.padding)?;
            Ok(FeatureShape::new(inputs[0].channels, height, width))
        }
        Op::GlobalAvgPool => Ok(FeatureShape::new(inputs[0].channels, 1, 1)),
        Op::Flatten => Ok(FeatureShape::new(inputs[0].values(), 1, 1)),
        Op::Linear {
            in_features,
            out_features,
            ..
        } => {
            let FeatureShape {
                channels,
                height,
                width,
            } = inputs[0];
            if (height, width) != (1, 1) {
                return Err(format!(
                    "expects a vector, its input is {}: put a flatten or a global-avg-pool before it",
                    inputs[0]
                ));
            }
            if channels != *in_features {
                return Err(format!(
                    "expects {in_features} input features, its input has {channels}"
                ));
            }
            check_extents(&[*in_features, *out_features])?;
            Ok(FeatureShape::new(*out_features, 1, 1))
        }
    }
}
