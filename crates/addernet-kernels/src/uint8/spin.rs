//! A loop that only touches registers: the speed limit of an instruction set.
#![allow(unsafe_code)]

use super::simd::{SimdU8, Task};
use std::hint::black_box;

/// Runs `rounds` of the tile's inner loop without its loads and returns the number of terms
/// computed.
pub(crate) fn run<S: SimdU8>(simd: S, rounds: u64) -> u64 {
    // As many chains as the tile has, which are enough to hide the latency of their sums.
    let chains = match (2 * S::PIXELS_2).max(S::PIXELS_1) {
        16.. => simd.vectorize(Loop::<16> { rounds }),
        8.. => simd.vectorize(Loop::<8> { rounds }),
        _ => simd.vectorize(Loop::<4> { rounds }),
    };
    (chains * S::LANES * S::GROUP) as u64 * rounds
}

struct Loop<const CHAINS: usize> {
    rounds: u64,
}

impl<const CHAINS: usize> Task for Loop<CHAINS> {
    type Output = usize;

    #[inline(always)]
    fn run<S: SimdU8>(self, simd: S) -> usize {
        let codes = black_box([1_u8; 64]);
        // Equal codes, so that no sum overflows.
        // SAFETY: a vector has at most 64 codes and 16 lanes.
        let (mut x, w, zero) = unsafe {
            let x_sum = black_box(0);
            let x = simd.load(codes.as_ptr());
            ([x; 2], simd.load(codes.as_ptr()), simd.start(&x_sum))
        };
        let factors = simd.factors();
        let mut chains = [zero; CHAINS];
        for _ in 0..self.rounds {
            for pair in 0..CHAINS / 2 {
                let [a, b] = [2 * pair, 2 * pair + 1];
                // Both: of equal codes the compiler would compute the terms of one.
                x.iter_mut().for_each(|x| simd.forget(x));
                [chains[a], chains[b]] =
                    simd.accumulate_two([chains[a], chains[b]], x, [w; 2], factors);
            }
        }
        let mut lanes = [0; 16];
        for chain in chains {
            // SAFETY: a vector has at most 16 lanes, and `lanes` is that long.
            unsafe { simd.store(lanes.as_mut_ptr(), chain) };
            black_box(&lanes);
        }
        CHAINS
    }
}
