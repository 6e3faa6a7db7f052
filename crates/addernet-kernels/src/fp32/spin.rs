//! Loops that only touch registers: the speed limit of an instruction set.
#![allow(unsafe_code)]

use super::simd::{SimdF32, Task};
use std::hint::black_box;

/// What a register-resident loop does with each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// `a + |x − w|`: the adder convolution's three operations.
    AbsDiff,
    /// `a · x + w`: the multiplying convolution's two.
    MulAdd,
}

/// Runs `rounds` of a loop and returns the number of terms computed.
pub(crate) fn run<S: SimdF32>(simd: S, spin: Spin, rounds: u64) -> u64 {
    let [pixels, vectors] = S::TILE;
    // As many chains as the tile has, which are enough to hide the latency of their sums.
    let chains = match pixels * vectors {
        16.. => simd.vectorize(Loop::<16> { spin, rounds }),
        8.. => simd.vectorize(Loop::<8> { spin, rounds }),
        _ => simd.vectorize(Loop::<4> { spin, rounds }),
    };
    chains as u64 * S::LANES as u64 * rounds
}

struct Loop<const CHAINS: usize> {
    spin: Spin,
    rounds: u64,
}

impl<const CHAINS: usize> Task for Loop<CHAINS> {
    type Output = usize;

    #[inline(always)]
    fn run<S: SimdF32>(self, simd: S) -> usize {
        // Values that the loops leave where they are: no overflow, no denormals, and nothing the
        // optimiser knows.
        let (one, w) = (simd.splat(black_box(1.0)), simd.splat(black_box(2.0)));
        let zero = simd.splat(black_box(0.0));
        let mut chains = [w; CHAINS];
        match self.spin {
            Spin::AbsDiff => {
                let mut x = w;
                for _ in 0..self.rounds {
                    for chain in &mut chains {
                        simd.forget(&mut x);
                        *chain = simd.add_abs_diff(*chain, x, w, one);
                    }
                }
            }
            Spin::MulAdd => {
                for _ in 0..self.rounds {
                    for chain in &mut chains {
                        *chain = simd.mul_add(*chain, one, zero);
                    }
                }
            }
        }
        let mut lanes = [0.0_f32; 64];
        for chain in chains {
            // SAFETY: a vector has at most 64 lanes, and `lanes` is that long.
            unsafe { simd.store(lanes.as_mut_ptr(), chain) };
            black_box(&lanes);
        }
        CHAINS
    }
}
