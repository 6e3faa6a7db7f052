//! The operator written from its definition, one scalar at a time: what every variant is tested
//! against.
//!
//! The definition is that of Chen et al., *AdderNet: Do We Really Need Multiplications in Deep
//! Learning?* (CVPR 2020), equations 2 (forward), 5 (weight gradient), 6 (HardTanh input gradient)
//! and 12 (adaptive learning rate).
//!
//! # Order of the sum
//! A float sum depends on its order, so the order is part of the definition here and every variant
//! keeps to it bit for bit. The terms of one output are taken in the order (kernel row, kernel
//! column, input channel) and added up in partial sums of [`CHUNK_TERMS`] consecutive terms, the
//! last one shorter; the partial sums are then subtracted in order from 0. Against one running sum
//! this divides the bound of the rounding error, which grows with the number of additions a term
//! passes through, by up to `CHUNK_TERMS`: a 512-channel 3x3 layer has 4608 terms, which pass
//! through at most 256 + 18 additions.
//!
//! # NaN and infinity
//! IEEE 754 arithmetic runs its course: a NaN in a window or in a kernel, or equal infinities in
//! both (`∞ − ∞`), gives NaN in exactly the outputs that see it, any other infinity gives −∞, and
//! no input makes a kernel panic. A NaN's sign and payload are unspecified; everything else is the
//! same in every variant.

use crate::{
    ConvGeometry, KernelError,
    error::{check_len, check_taps},
};

/// Terms per partial sum.
pub const CHUNK_TERMS: usize = 256;

/// The forward pass: `y[n,i,j,o] = −Σ |x − w|`.
///
/// `x` is NHWC, `w` OIHW, `y` NHWC, with the lengths that `geometry` gives.
///
/// # Errors
/// [`KernelError::WrongLength`] when a slice does not have the length that `geometry` gives.
///
/// ```
/// use addernet_kernels::{ConvGeometry, reference};
///
/// // One pixel with two channels, one 1x1 kernel.
/// let geometry = ConvGeometry::new([1, 1, 1, 2], 1, [1, 1], [1, 1], [0, 0])?;
/// let mut y = [0.0];
/// reference::forward(&geometry, &[1.0, -2.0], &[0.5, 1.0], &mut y)?;
/// assert_eq!(y, [-3.5]);
/// # Ok::<(), addernet_kernels::KernelError>(())
/// ```
pub fn forward(
    geometry: &ConvGeometry,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
) -> Result<(), KernelError> {
    check_len("input", geometry.in_len(), x.len())?;
    check_len("weights", geometry.weight_len(), w.len())?;
    check_len("output", geometry.out_len(), y.len())?;
    for_each_output(geometry, |position, o, index| {
        let (mut total, mut partial, mut terms) = (0.0_f32, 0.0_f32, 0);
        for_each_tap(geometry, position, o, |x_index, w_index| {
            if terms == CHUNK_TERMS {
                total -= partial;
                (partial, terms) = (0.0, 0);
            }
            partial += (x_index.map_or(0.0, |at| x[at]) - w[w_index]).abs();
            terms += 1;
        });
        y[index] = total - partial;
    });
    Ok(())
}

/// The forward pass on unsigned codes, without the sign: `y[n,i,j,o] = Σ |x − w|`, where a padded tap
/// has `x = pad`.
///
/// `x` is NHWC, `w` OIHW, `y` NHWC, with the lengths that `geometry` gives. The sums are exact.
///
/// # Errors
/// [`KernelError::WrongLength`] when a slice does not have the length that `geometry` gives,
/// [`KernelError::AccumulatorOverflow`] when an output has so many terms that its sum may not fit.
///
/// ```
/// use addernet_kernels::{ConvGeometry, reference};
///
/// // One pixel with two channels, one 1x1 kernel.
/// let geometry = ConvGeometry::new([1, 1, 1, 2], 1, [1, 1], [1, 1], [0, 0])?;
/// let mut y = [0];
/// reference::forward_u8(&geometry, &[10, 0], 0, &[13, 255], &mut y)?;
/// assert_eq!(y, [3 + 255]);
/// # Ok::<(), addernet_kernels::KernelError>(())
/// ```
pub fn forward_u8(
    geometry: &ConvGeometry,
    x: &[u8],
    pad: u8,
    w: &[u8],
    y: &mut [i32],
) -> Result<(), KernelError> {
    check_len("input", geometry.in_len(), x.len())?;
    check_len("weights", geometry.weight_len(), w.len())?;
    check_len("output", geometry.out_len(), y.len())?;
    check_taps(geometry.taps())?;
    for_each_output(geometry, |position, o, index| {
        let mut sum = 0;
        for_each_tap(geometry, position, o, |x_index, w_index| {
            sum += i32::from(x_index.map_or(pad, |at| x[at]).abs_diff(w[w_index]));
        });
        y[index] = sum;
    });
    Ok(())
}

/// The input gradient: `∂x = Σ_o g · clamp(w − x, −1, 1)` over every output that sees the input
/// element.
///
/// `grad_y` and `grad_x` are NHWC like the output and the input. The sum is carried in f64 and
/// rounded once.
///
/// # Errors
/// [`KernelError::WrongLength`] when a slice does not have the length that `geometry` gives.
pub fn grad_input(
    geometry: &ConvGeometry,
    x: &[f32],
    w: &[f32],
    grad_y: &[f32],
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    check_len("input", geometry.in_len(), x.len())?;
    check_len("weights", geometry.weight_len(), w.len())?;
    check_len("output gradient", geometry.out_len(), grad_y.len())?;
    check_len("input gradient", geometry.in_len(), grad_x.len())?;
    let mut sums = vec![0.0_f64; grad_x.len()];
    for_each_output(geometry, |position, o, index| {
        let g = f64::from(grad_y[index]);
        for_each_tap(geometry, position, o, |x_index, w_index| {
            if let Some(at) = x_index {
                sums[at] += g * f64::from((w[w_index] - x[at]).clamp(-1.0, 1.0));
            }
        });
    });
    round_into(&sums, grad_x);
    Ok(())
}

/// The full-precision weight gradient: `∂w = Σ g · (x − w)` over every image and output position,
/// padded taps (x = 0) included.
///
/// `grad_w` is OIHW. The sum is carried in f64 and rounded once. Training scales the result with
/// [`normalise_grad_weight`].
///
/// # Errors
/// [`KernelError::WrongLength`] when a slice does not have the length that `geometry` gives.
pub fn grad_weight(
    geometry: &ConvGeometry,
    x: &[f32],
    w: &[f32],
    grad_y: &[f32],
    grad_w: &mut [f32],
) -> Result<(), KernelError> {
    sum_grad_weight(geometry, x, w, grad_y, grad_w, |difference| difference)
}

/// The clamped weight gradient: `∂w = Σ g · clamp(x − w, −1, 1)`, otherwise as [`grad_weight`]. It is
/// within [−1, 1] of the derivative's sign, like the input gradient.
///
/// # Errors
/// [`KernelError::WrongLength`] when a slice does not have the length that `geometry` gives.
pub fn grad_weight_clamped(
    geometry: &ConvGeometry,
    x: &[f32],
    w: &[f32],
    grad_y: &[f32],
    grad_w: &mut [f32],
) -> Result<(), KernelError> {
    sum_grad_weight(geometry, x, w, grad_y, grad_w, |difference| {
        difference.clamp(-1.0, 1.0)
    })
}

fn sum_grad_weight(
    geometry: &ConvGeometry,
    x: &[f32],
    w: &[f32],
    grad_y: &[f32],
    grad_w: &mut [f32],
    slope: impl Fn(f32) -> f32,
) -> Result<(), KernelError> {
    check_len("input", geometry.in_len(), x.len())?;
    check_len("weights", geometry.weight_len(), w.len())?;
    check_len("output gradient", geometry.out_len(), grad_y.len())?;
    check_len("weight gradient", geometry.weight_len(), grad_w.len())?;
    let mut sums = vec![0.0_f64; grad_w.len()];
    for_each_output(geometry, |position, o, index| {
        let g = f64::from(grad_y[index]);
        for_each_tap(geometry, position, o, |x_index, w_index| {
            sums[w_index] += g * f64::from(slope(x_index.map_or(0.0, |at| x[at]) - w[w_index]));
        });
    });
    round_into(&sums, grad_w);
    Ok(())
}

/// The adaptive learning rate of one layer, in place: `∂w ← ∂w · η · √(numel) / max(‖∂w‖₂, 1e−12)`.
///
/// `grad_w` is a whole layer's gradient; the published `eta` is 0.2.
///
/// ```
/// let mut grad_w = [3.0, 4.0, 0.0, 0.0];
/// addernet_kernels::reference::normalise_grad_weight(&mut grad_w, 0.25);
/// assert_eq!(grad_w, [0.3, 0.4, 0.0, 0.0]);
/// ```
pub fn normalise_grad_weight(grad_w: &mut [f32], eta: f32) {
    let norm = grad_w
        .iter()
        .map(|&g| f64::from(g).powi(2))
        .sum::<f64>()
        .sqrt();
    let scale = f64::from(eta) * (grad_w.len() as f64).sqrt() / norm.max(1e-12);
    for g in grad_w {
        *g = (f64::from(*g) * scale) as f32;
    }
}

/// Calls `visit([image, row, column], output channel, index into y)` for every output element.
fn for_each_output(geometry: &ConvGeometry, mut visit: impl FnMut([usize; 3], usize, usize)) {
    let mut index = 0;
    for n in 0..geometry.batch() {
        for i in 0..geometry.out_height() {
            for j in 0..geometry.out_width() {
                for o in 0..geometry.out_channels() {
                    visit([n, i, j], o, index);
                    index += 1;
                }
            }
        }
    }
}

/// Calls `visit(index into x or None in the padding, index into w)` for every term of one output,
/// in the order of the sum.
fn for_each_tap(
    geometry: &ConvGeometry,
    [n, i, j]: [usize; 3],
    o: usize,
    mut visit: impl FnMut(Option<usize>, usize),
) {
    let [kernel_height, kernel_width] = geometry.kernel();
    let ([stride_v, stride_h], [pad_v, pad_h]) = (geometry.stride(), geometry.padding());
    let (height, width, channels) = (
        geometry.in_height(),
        geometry.in_width(),
        geometry.in_channels(),
    );
    for u in 0..kernel_height {
        let row = (i * stride_v + u)
            .checked_sub(pad_v)
            .filter(|&row| row < height);
        for v in 0..kernel_width {
            let column = (j * stride_h + v)
                .checked_sub(pad_h)
                .filter(|&column| column < width);
            let pixel = row
                .zip(column)
                .map(|(row, column)| (n * height + row) * width + column);
            for c in 0..channels {
                let w_index = ((o * channels + c) * kernel_height + u) * kernel_width + v;
                visit(pixel.map(|pixel| pixel * channels + c), w_index);
            }
        }
    }
}

fn round_into(sums: &[f64], out: &mut [f32]) {
    for (out, &sum) in out.iter_mut().zip(sums) {
        *out = sum as f32;
    }
}
