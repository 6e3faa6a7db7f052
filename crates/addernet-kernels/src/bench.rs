//! Throughput of the kernels on a given layer.

use crate::{AdderKernelF32, AdderKernelU8, ConvGeometry, KernelError};
use std::time::{Duration, Instant};

/// Rounds over which the median is taken.
const ROUNDS: usize = 9;

/// A layer to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Kernel size, channels in and out, input size, stride.
    pub name: &'static str,
    /// Its sizes.
    pub geometry: ConvGeometry,
}

/// Name, input size, input channels, output channels, kernel, stride; "same" padding.
type Shape = (&'static str, usize, usize, usize, usize, usize);

/// Each shape that ResNet-20's adder layers have on 32x32 images, for a batch of so many images.
///
/// # Errors
/// [`KernelError`] when `batch` is 0 or too large for this machine.
pub fn resnet20_layers(batch: usize) -> Result<Vec<Layer>, KernelError> {
    layers(
        batch,
        &[
            ("3x3 16-16 32x32", 32, 16, 16, 3, 1),
            ("3x3 16-32 32x32 /2", 32, 16, 32, 3, 2),
            ("1x1 16-32 32x32 /2", 32, 16, 32, 1, 2),
            ("3x3 32-32 16x16", 16, 32, 32, 3, 1),
            ("3x3 32-64 16x16 /2", 16, 32, 64, 3, 2),
            ("1x1 32-64 16x16 /2", 16, 32, 64, 1, 2),
            ("3x3 64-64 8x8", 8, 64, 64, 3, 1),
        ],
    )
}

/// Each shape that ResNet-18's adder layers have on 224x224 images, for a batch of so many images.
///
/// # Errors
/// [`KernelError`] when `batch` is 0 or too large for this machine.
pub fn resnet18_layers(batch: usize) -> Result<Vec<Layer>, KernelError> {
    layers(
        batch,
        &[
            ("3x3 64-64 56x56", 56, 64, 64, 3, 1),
            ("3x3 64-128 56x56 /2", 56, 64, 128, 3, 2),
            ("1x1 64-128 56x56 /2", 56, 64, 128, 1, 2),
            ("3x3 128-128 28x28", 28, 128, 128, 3, 1),
            ("3x3 128-256 28x28 /2", 28, 128, 256, 3, 2),
            ("1x1 128-256 28x28 /2", 28, 128, 256, 1, 2),
            ("3x3 256-256 14x14", 14, 256, 256, 3, 1),
            ("3x3 256-512 14x14 /2", 14, 256, 512, 3, 2),
            ("1x1 256-512 14x14 /2", 14, 256, 512, 1, 2),
            ("3x3 512-512 7x7", 7, 512, 512, 3, 1),
        ],
    )
}

fn layers(batch: usize, shapes: &[Shape]) -> Result<Vec<Layer>, KernelError> {
    let layer = |&(name, size, channels, out_channels, kernel, stride): &Shape| {
        let input = [batch, size, size, channels];
        let padding = [kernel / 2; 2];
        ConvGeometry::new(input, out_channels, [kernel; 2], [stride; 2], padding)
            .map(|geometry| Layer { name, geometry })
    };
    shapes.iter().map(layer).collect()
}

/// Terms `|x − w|` per second of one kernel's forward pass on one layer, in the current rayon pool.
///
/// As [`forward_throughputs`] with a single kernel.
///
/// # Errors
/// As [`forward_throughputs`].
///
/// ```
/// use addernet_kernels::{ConvGeometry, bench, select};
/// use std::time::Duration;
///
/// let geometry = ConvGeometry::new([1, 8, 8, 64], 64, [3, 3], [1, 1], [1, 1])?;
/// let rate = bench::forward_throughput(select(None)?, &geometry, Duration::from_millis(10))?;
/// println!("{:.1} G elements/s", rate / 1e9);
/// # Ok::<(), addernet_kernels::KernelError>(())
/// ```
pub fn forward_throughput(
    kernel: &dyn AdderKernelF32,
    geometry: &ConvGeometry,
    min_time: Duration,
) -> Result<f64, KernelError> {
    Ok(forward_throughputs(&[kernel], geometry, min_time)?[0])
}

/// Terms `|x − w|` per second of each kernel's forward pass on one layer, in the current rayon
/// pool.
///
/// The kernels take turns, each for a ninth of `min_time`, nine times over, and each one's median
/// turn counts: a change of the machine's speed on the way meets all of them. Packing the weights
/// is not part of the time, padding the input is. The values are those of a smooth function, free
/// of denormals.
///
/// # Errors
/// [`KernelError::SizeOverflow`] when the geometry is too large for this machine.
pub fn forward_throughputs(
    kernels: &[&dyn AdderKernelF32],
    geometry: &ConvGeometry,
    min_time: Duration,
) -> Result<Vec<f64>, KernelError> {
    let x: Vec<f32> = (0..geometry.in_len())
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    let w: Vec<f32> = (0..geometry.weight_len())
        .map(|i| (i as f32 * 0.61).cos())
        .collect();
    let mut y = vec![0.0; geometry.out_len()];
    let packed = kernels
        .iter()
        .map(|kernel| kernel.pack(geometry.weight_shape(), &w))
        .collect::<Result<Vec<_>, _>>()?;

    take_turns(geometry, min_time, kernels.len(), |at| {
        kernels[at].forward(geometry, &x, &packed[at], &mut y)
    })
}

/// Terms `|x − w|` per second of one u8 kernel's forward pass on one layer, in the current rayon
/// pool.
///
/// As [`forward_throughputs_u8`] with a single kernel.
///
/// # Errors
/// As [`forward_throughputs_u8`].
///
/// ```
/// use addernet_kernels::{ConvGeometry, bench, select_u8};
/// use std::time::Duration;
///
/// let geometry = ConvGeometry::new([1, 8, 8, 64], 64, [3, 3], [1, 1], [1, 1])?;
/// let rate = bench::forward_throughput_u8(select_u8(None)?, &geometry, Duration::from_millis(10))?;
/// println!("{:.1} G elements/s", rate / 1e9);
/// # Ok::<(), addernet_kernels::KernelError>(())
/// ```
pub fn forward_throughput_u8(
    kernel: &dyn AdderKernelU8,
    geometry: &ConvGeometry,
    min_time: Duration,
) -> Result<f64, KernelError> {
    Ok(forward_throughputs_u8(&[kernel], geometry, min_time)?[0])
}

/// Terms `|x − w|` per second of each u8 kernel's forward pass on one layer, in the current rayon
/// pool.
///
/// Measured as in [`forward_throughputs`]; padding the input and summing its windows are part of the
/// time. The values spread over all codes.
///
/// # Errors
/// [`KernelError::SizeOverflow`] or [`KernelError::AccumulatorOverflow`] when the geometry is too
/// large.
pub fn forward_throughputs_u8(
    kernels: &[&dyn AdderKernelU8],
    geometry: &ConvGeometry,
    min_time: Duration,
) -> Result<Vec<f64>, KernelError> {
    let (x, w) = operands_u8(geometry);
    let mut y = vec![0; geometry.out_len()];
    let packed = kernels
        .iter()
        .map(|kernel| kernel.pack(geometry.weight_shape(), &w))
        .collect::<Result<Vec<_>, _>>()?;
    take_turns(geometry, min_time, kernels.len(), |at| {
        kernels[at].forward(geometry, &x, 0, &packed[at], &mut y)
    })
}

/// An input and weights of one layer for measurements: codes that spread over 0..=255.
pub fn operands_u8(geometry: &ConvGeometry) -> (Vec<u8>, Vec<u8>) {
    // The high byte of a multiplicative (Fibonacci) hash.
    let codes = |len: usize, factor: u32| {
        (0..len as u32)
            .map(|i| (i.wrapping_mul(factor) >> 24) as u8)
            .collect()
    };
    (
        codes(geometry.in_len(), 2_654_435_769),
        codes(geometry.weight_len(), 2_246_822_519),
    )
}

/// Terms per second of each of `kernels` calls, which take turns.
fn take_turns(
    geometry: &ConvGeometry,
    min_time: Duration,
    kernels: usize,
    mut call: impl FnMut(usize) -> Result<(), KernelError>,
) -> Result<Vec<f64>, KernelError> {
    let mut run = |kernel: usize, time: Duration| {
        let (start, mut calls) = (Instant::now(), 0_u32);
        loop {
            call(kernel)?;
            calls += 1;
            let elapsed = start.elapsed();
            if elapsed >= time {
                return Ok(f64::from(calls) * geometry.elements() as f64 / elapsed.as_secs_f64());
            }
        }
    };
    let turn = min_time / ROUNDS as u32;
    let mut rates = vec![Vec::with_capacity(ROUNDS); kernels];
    for round in 0..=ROUNDS {
        for (kernel, rates) in rates.iter_mut().enumerate() {
            let rate = run(kernel, turn)?;
            if round > 0 {
                rates.push(rate); // Round 0 warms up.
            }
        }
    }
    Ok(rates
        .into_iter()
        .map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        })
        .collect())
}
