//! The measured speed limit of a kernel's instruction set on this machine, for roofline
//! comparisons.
//!
//! The loops touch registers only and keep as many independent sums in flight as the convolution's
//! tile does. The first and the last one bound the adder convolution on floats and on codes: no
//! schedule of the kernel's instructions for a term is faster. The second one is what a multiplying
//! convolution could reach at best, and is there to compare with.

use crate::{AdderKernelF32, AdderKernelU8, fp32::spin::Spin};
use std::time::{Duration, Instant};

/// Terms `|x − w|` that one thread can compute and add up per second from registers.
///
/// The median of several runs that together take about `min_time`.
///
/// ```
/// use std::time::Duration;
///
/// let kernel = addernet_kernels::select(None)?;
/// let peak = addernet_kernels::peak::l1_elements_per_second(kernel, Duration::from_millis(20));
/// println!("{}: {:.1} G elements/s", kernel.name(), peak / 1e9);
/// assert!(peak > 1e6);
/// # Ok::<(), addernet_kernels::KernelError>(())
/// ```
pub fn l1_elements_per_second(kernel: &dyn AdderKernelF32, min_time: Duration) -> f64 {
    rate(|rounds| kernel.spin(Spin::AbsDiff, rounds), min_time)
}

/// Products that one thread can compute and add up per second from registers, with fused
/// multiply-add where the instruction set has it.
///
/// The median of several runs that together take about `min_time`.
pub fn fma_elements_per_second(kernel: &dyn AdderKernelF32, min_time: Duration) -> f64 {
    rate(|rounds| kernel.spin(Spin::MulAdd, rounds), min_time)
}

/// Terms `|x − w|` on u8 codes that one thread can compute and add up per second from registers
/// with one kernel's instructions.
///
/// The median of several runs that together take about `min_time`.
///
/// ```
/// use std::time::Duration;
///
/// let kernel = addernet_kernels::select_u8(None)?;
/// let peak = addernet_kernels::peak::u8_elements_per_second(kernel, Duration::from_millis(20));
/// println!("{}: {:.1} G elements/s", kernel.name(), peak / 1e9);
/// assert!(peak > 1e6);
/// # Ok::<(), addernet_kernels::KernelError>(())
/// ```
pub fn u8_elements_per_second(kernel: &dyn AdderKernelU8, min_time: Duration) -> f64 {
    rate(|rounds| kernel.spin(rounds), min_time)
}

/// The median rate of `spin`, which takes a number of rounds and returns its number of terms.
fn rate(spin: impl Fn(u64) -> u64, min_time: Duration) -> f64 {
    const RUNS: usize = 9;
    let run = |rounds: u64| {
        let start = Instant::now();
        let elements = spin(rounds);
        (elements, start.elapsed())
    };
    // Long enough for the clock, and a warm-up as well.
    let run_time = min_time.as_secs_f64() / RUNS as f64;
    let mut rounds: u64 = 1024;
    while run(rounds).1.as_secs_f64() < run_time {
        rounds *= 2;
    }
    let mut rates: Vec<f64> = (0..RUNS)
        .map(|_| {
            let (elements, time) = run(rounds);
            elements as f64 / time.as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[RUNS / 2]
}
