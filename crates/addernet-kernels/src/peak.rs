//! The measured speed limit of a kernel's instruction set on this machine, for roofline
//! comparisons.
//!
//! Both loops touch registers only and keep as many independent sums in flight as the convolution's
//! tile does. The first one bounds the adder convolution: no schedule of subtract, absolute value,
//! add is faster. The second one is what a multiplying convolution could reach at best, and is
//! there to compare with.

use crate::{AdderKernelF32, fp32::spin::Spin};
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
    rate(kernel, Spin::AbsDiff, min_time)
}

/// Products that one thread can compute and add up per second from registers, with fused
/// multiply-add where the instruction set has it.
///
/// The median of several runs that together take about `min_time`.
pub fn fma_elements_per_second(kernel: &dyn AdderKernelF32, min_time: Duration) -> f64 {
    rate(kernel, Spin::MulAdd, min_time)
}

fn rate(kernel: &dyn AdderKernelF32, spin: Spin, min_time: Duration) -> f64 {
    const RUNS: usize = 9;
    let run = |rounds: u64| {
        let start = Instant::now();
        let elements = kernel.spin(spin, rounds);
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
