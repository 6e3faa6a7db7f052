//! Ordinary convolution: patches as rows of a matrix, then one matrix product per image.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Array4, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::op::ConvAttributes;
use crate::shape::FeatureShape;

/// Weights OIHW as a matrix (Kh·Kw·C) x O, the order in which [`forward`] gathers patches.
pub(super) fn weight_matrix(weight: &[f32], conv: &ConvAttributes) -> Array2<f32> {
    let [o, c, kh, kw] = conv.weight_shape();
    Array2::from_shape_fn((kh * kw * c, o), |(row, out)| {
        let (tap, channel) = (row / c, row % c);
        weight[(out * c + channel) * kh * kw + tap]
    })
}

/// Cross-correlation of `x` (N,H,W,C) with `weight` ((Kh·Kw·C) x O) plus `bias` (O, or empty).
pub(super) fn forward(
    x: &Array4<f32>,
    conv: &ConvAttributes,
    out: FeatureShape,
    weight: &Array2<f32>,
    bias: &[f32],
) -> Array4<f32> {
    let (batch, height, width, channels) = x.dim();
    let mut y = Array4::zeros((batch, out.height, out.width, out.channels));
    let positions = out.height * out.width;
    let is_matrix_product =
        conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.padding == [0, 0];
    y.axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(x.axis_iter(Axis(0)).into_par_iter())
        .for_each(|(mut y, x)| {
            let (Some(x), Some(y)) = (x.as_slice(), y.as_slice_mut()) else {
                return;
            };
            for (pixel, b) in y
                .chunks_exact_mut(out.channels)
                .flat_map(|p| p.iter_mut().zip(bias))
            {
                *pixel = *b;
            }
            let patches = if is_matrix_product {
                None
            } else {
                Some(gather(x, [height, width, channels], conv, out))
            };
            let rows = patches.as_deref().unwrap_or(x);
            let depth = weight.nrows();
            if let (Ok(rows), Ok(mut y)) = (
                ArrayView2::from_shape((positions, depth), rows),
                ArrayViewMut2::from_shape((positions, out.channels), y),
            ) {
                general_mat_mul(1.0, &rows, weight, 1.0, &mut y);
            }
        });
    y
}

/// One image's patches: (H'·W') rows of Kh·Kw·C values, zeros where a tap is in the padding.
fn gather(x: &[f32], dims: [usize; 3], conv: &ConvAttributes, out: FeatureShape) -> Vec<f32> {
    let [height, width, channels] = dims;
    let [kh, kw] = conv.kernel;
    let depth = kh * kw * channels;
    let mut patches = vec![0.0; out.height * out.width * depth];
    for (position, patch) in patches.chunks_exact_mut(depth).enumerate() {
        let (i, j) = (position / out.width, position % out.width);
        for (tap, values) in patch.chunks_exact_mut(channels).enumerate() {
            let row = (i * conv.stride[0] + tap / kw).checked_sub(conv.padding[0]);
            let column = (j * conv.stride[1] + tap % kw).checked_sub(conv.padding[1]);
            if let (Some(row), Some(column)) = (row, column)
                && row < height
                && column < width
            {
                let start = (row * width + column) * channels;
                values.copy_from_slice(&x[start..start + channels]);
            }
        }
    }
    patches
}
