//! Layers that work value by value: BN, ReLU, sums, flattening.

use ndarray::Array4;
use rayon::prelude::*;

/// Below this many values, handing work to other threads costs more than it saves.
const PARALLEL_FROM: usize = 1 << 19;
/// Values per parallel piece, a multiple of every practical channel count times 64.
const PIECE_ROWS: usize = 4096;

/// Calls `f` on pieces of whole pixels (`channels` values each), in parallel if `x` is large.
fn for_pixels(x: &mut Array4<f32>, f: impl Fn(&mut [f32]) + Sync) {
    let channels = x.dim().3;
    let parallel = x.len() >= PARALLEL_FROM;
    if let Some(values) = x.as_slice_mut() {
        if parallel {
            values.par_chunks_mut(channels * PIECE_ROWS).for_each(&f);
        } else {
            f(values);
        }
    }
}

/// max(x, 0) in place.
pub(super) fn relu(x: &mut Array4<f32>) {
    // Not `f32::max`, which would hide a NaN.
    for_pixels(x, |values| {
        values
            .iter_mut()
            .for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v });
    });
}

/// x·factor + offset per channel, in place: `x` is (N,H,W,C), `factor` and `offset` have C values.
pub fn affine(x: &mut Array4<f32>, factor: &[f32], offset: &[f32]) {
    for_pixels(x, |values| {
        for pixel in values.chunks_exact_mut(factor.len()) {
            let (blocks, rest) = pixel.as_chunks_mut::<LANES>();
            let (factors, last_factors) = factor.as_chunks::<LANES>();
            let (offsets, last_offsets) = offset.as_chunks::<LANES>();
            for ((v, f), o) in blocks.iter_mut().zip(factors).zip(offsets) {
                (0..LANES).for_each(|lane| v[lane] = v[lane] * f[lane] + o[lane]);
            }
            for ((v, f), o) in rest.iter_mut().zip(last_factors).zip(last_offsets) {
                *v = *v * f + o;
            }
        }
    });
}

/// Channels at a time: loops over a known number of them become vector instructions.
const LANES: usize = 8;

/// x + bias per channel, in place.
pub(super) fn add_channels(x: &mut Array4<f32>, bias: &[f32]) {
    for_pixels(x, |values| {
        for pixel in values.chunks_exact_mut(bias.len()) {
            pixel.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
        }
    });
}

/// x + y in place.
pub(super) fn add(x: &mut Array4<f32>, y: &Array4<f32>) {
    let parallel = x.len() >= PARALLEL_FROM;
    match (x.as_slice_mut(), y.as_slice()) {
        (Some(x), Some(y)) if parallel => {
            let piece = PIECE_ROWS * 16;
            x.par_chunks_mut(piece)
                .zip(y.par_chunks(piece))
                .for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(a, b)| *a += b));
        }
        (Some(x), Some(y)) => x.iter_mut().zip(y).for_each(|(a, b)| *a += b),
        _ => *x += y,
    }
}

/// NHWC maps to N x (C·H·W) vectors in PyTorch's order: channel, row, column.
pub(super) fn flatten(x: &Array4<f32>) -> Array4<f32> {
    let (n, h, w, c) = x.dim();
    Array4::from_shape_fn((n, 1, 1, c * h * w), |(image, _, _, feature)| {
        let (channel, position) = (feature / (h * w), feature % (h * w));
        x[[image, position / w, position % w, channel]]
    })
}

/// BN with fixed statistics as one factor and one offset per channel.
///
/// factor = weight/√(var + eps), offset = bias − mean·factor, computed in f64.
pub(super) fn batch_norm_affine(
    weight: &[f32],
    bias: &[f32],
    mean: &[f32],
    var: &[f32],
    eps: f32,
) -> (Vec<f32>, Vec<f32>) {
    (0..weight.len())
        .map(|c| {
            let factor = f64::from(weight[c]) / (f64::from(var[c]) + f64::from(eps)).sqrt();
            let offset = f64::from(bias[c]) - f64::from(mean[c]) * factor;
            (factor as f32, offset as f32)
        })
        .unzip()
}
