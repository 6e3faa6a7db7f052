//! Pooling layers.

use ndarray::{Array4, Axis};

use crate::op::PoolAttributes;
use crate::shape::FeatureShape;

/// Folds each window's pixels, channel by channel, into an accumulator that starts at `start`.
fn fold(
    x: &Array4<f32>,
    pool: &PoolAttributes,
    out: FeatureShape,
    start: f32,
    combine: impl Fn(f32, f32) -> f32,
) -> Array4<f32> {
    let (batch, height, width, channels) = x.dim();
    let mut y = Array4::from_elem((batch, out.height, out.width, channels), start);
    for n in 0..batch {
        for i in 0..out.height {
            for j in 0..out.width {
                let rows = taps(i, pool.stride[0], pool.padding[0], pool.kernel[0], height);
                for row in rows {
                    for column in taps(j, pool.stride[1], pool.padding[1], pool.kernel[1], width) {
                        for c in 0..channels {
                            let value = &mut y[[n, i, j, c]];
                            *value = combine(*value, x[[n, row, column, c]]);
                        }
                    }
                }
            }
        }
    }
    y
}

/// The input positions of a window that are inside the map.
fn taps(
    position: usize,
    stride: usize,
    padding: usize,
    kernel: usize,
    extent: usize,
) -> std::ops::Range<usize> {
    let start = position * stride;
    start.saturating_sub(padding)..(start + kernel).saturating_sub(padding).min(extent)
}

/// Maximum over each window; padding never wins.
pub(super) fn max(x: &Array4<f32>, pool: &PoolAttributes, out: FeatureShape) -> Array4<f32> {
    // Not `f32::max`, which would hide a NaN.
    let larger = |m: f32, v: f32| if v > m || v.is_nan() { v } else { m };
    fold(x, pool, out, f32::NEG_INFINITY, larger)
}

/// Mean over each window; padded zeros count, as in PyTorch's default.
pub(super) fn average(x: &Array4<f32>, pool: &PoolAttributes, out: FeatureShape) -> Array4<f32> {
    let window = (pool.kernel[0] * pool.kernel[1]) as f32;
    let mut y = fold(x, pool, out, 0.0, |sum, v| sum + v);
    y.mapv_inplace(|sum| sum / window);
    y
}

/// Mean over the whole map: (N,H,W,C) gives (N,1,1,C).
pub(super) fn global_average(x: &Array4<f32>) -> Array4<f32> {
    let (_, height, width, _) = x.dim();
    let sums = x.sum_axis(Axis(1)).sum_axis(Axis(1)) / (height * width) as f32;
    sums.insert_axis(Axis(1)).insert_axis(Axis(1))
}
