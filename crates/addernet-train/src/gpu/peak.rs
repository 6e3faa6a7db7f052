//! What the device reaches on registers alone, to compare the kernels with.

use burn::backend::Backend;
use burn::backend::Cube;
use burn_cubecl::CubeDevice;
use cubecl::prelude::*;

use super::tile::Quad;
use crate::error::TrainError;

/// Units of a workgroup.
const UNITS: u32 = 256;
/// Workgroups: enough for the largest GPUs.
const GROUPS: u32 = 2048;
/// Independent chains of a unit, four sums each.
const CHAINS: u32 = 8;
/// Terms of a sum per turn of the loop.
const STEPS: u32 = 16;

/// Adds up `turns·STEPS` terms per sum: products, or absolute differences as the forward pass has them.
#[cube(launch)]
fn spin(values: &mut [f32], turns: u32, #[comptime] products: bool) {
    let place = ABSOLUTE_POS;
    let a = Quad::new(values[place]);
    let b = a * Quad::new(0.5);
    let mut sums = Array::<Quad>::new(comptime!(CHAINS as usize));
    #[unroll]
    for i in 0..comptime!(CHAINS as usize) {
        sums[i] = a * Quad::new(f32::cast_from(i as u32));
    }
    for _ in 0..turns {
        #[unroll]
        for _ in 0..comptime!(STEPS as usize) {
            #[unroll]
            for i in 0..comptime!(CHAINS as usize) {
                let sum = sums[i];
                if comptime!(products) {
                    sums[i] = fma(sum, a, b);
                } else {
                    let difference = sum - a;
                    sums[i] = b + difference.abs();
                }
            }
        }
    }
    let mut all = 0.0f32;
    #[unroll]
    for i in 0..comptime!(CHAINS as usize) {
        let sum = sums[i];
        all +=
            sum.extract(0usize) + sum.extract(1usize) + sum.extract(2usize) + sum.extract(3usize);
    }
    values[place] = all;
}

/// Queues a run and gives its number of terms.
fn launch(device: &CubeDevice, turns: u32, products: bool) -> f64 {
    let client = device.client();
    let len = (UNITS * GROUPS) as usize;
    let values = super::zeros(device, [len, 1, 1, 1]);
    spin::launch(
        &client,
        CubeCount::Static(GROUPS, 1, 1),
        CubeDim::new_1d(UNITS),
        values.into_buffer_arg(),
        turns,
        products,
    );
    f64::from(turns) * f64::from(STEPS * CHAINS * 4) * len as f64
}

/// Terms per second: `[products, absolute differences]`, the best of three runs of `min_time` at least.
pub(crate) fn per_second(
    device: &CubeDevice,
    min_time: std::time::Duration,
) -> Result<[f64; 2], TrainError> {
    let run = |turns: u32, products: bool| -> Result<(f64, f64), TrainError> {
        let start = std::time::Instant::now();
        let terms = launch(device, turns, products);
        Cube::sync(device).map_err(TrainError::device)?;
        Ok((terms, start.elapsed().as_secs_f64()))
    };
    let mut rates = [0.0; 2];
    for (rate, products) in rates.iter_mut().zip([true, false]) {
        // Compiles the kernel.
        run(1, products)?;
        let mut turns = 1;
        while run(turns, products)?.1 < min_time.as_secs_f64() && turns < 1 << 20 {
            turns *= 2;
        }
        for _ in 0..3 {
            let (terms, seconds) = run(turns, products)?;
            *rate = f64::max(*rate, terms / seconds);
        }
    }
    Ok(rates)
}
