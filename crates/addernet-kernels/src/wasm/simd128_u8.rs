//! simd128 on u8 codes: registers of 16 bytes, in pairs as on Arm.
#![allow(unsafe_code)]

use super::simd128_fours::look_up;
use crate::uint8::{
    fours::{Sums, Window},
    simd::{SimdU8, Task},
};
use std::arch::wasm32::*;

/// The module runs, so the machine has vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simd128U8;

/// Two registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair(v128, v128);

/// The larger minus the smaller one, then two pairwise additions: there is neither an absolute difference nor a dot product of
/// unsigned bytes.
impl SimdU8 for Simd128U8 {
    type Codes = Pair;
    type Sums = Pair;
    type Factors = ();

    const NAME: &'static str = "simd128";
    const LANES: usize = 8;
    const GROUP: usize = 4;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 2;
    const PIXELS_1: usize = 4;
    const SLIDE: bool = false;
    const FOURS: usize = 1;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> Pair {
        // SAFETY: the caller promises 4 readable bytes.
        let group = unsafe { v128_load32_splat(from.cast()) };
        Pair(group, group)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Pair {
        // SAFETY: the caller promises 32 readable bytes.
        unsafe { Pair(v128_load(from.cast()), v128_load(from.add(16).cast())) }
    }

    #[inline(always)]
    unsafe fn start(self, _x_sum: *const i32) -> Pair {
        let half = i32x4_splat(0);
        Pair(half, half)
    }

    #[inline(always)]
    fn factors(self) {}

    #[inline(always)]
    fn accumulate(self, sums: Pair, x: Pair, w: Pair, (): ()) -> Pair {
        let add = |sums, x, w| {
            let difference = u8x16_sub(u8x16_max(x, w), u8x16_min(x, w));
            let pairs = u16x8_extadd_pairwise_u8x16(difference);
            u32x4_add(sums, u32x4_extadd_pairwise_u16x8(pairs))
        };
        Pair(add(sums.0, x.0, w.0), add(sums.1, x.1, w.1))
    }

    #[inline(always)]
    unsafe fn look_up_fours<const P: usize, const B: usize>(
        self,
        x: [*const u16; P],
        w: [*const u8; B],
        window: Window,
        sums: &mut [Sums; B],
    ) {
        // SAFETY: the caller promises windows and blocks.
        unsafe { look_up(x, w, window, sums) }
    }

    #[inline(always)]
    fn widen(self, sums: &[u16]) -> Pair {
        // SAFETY: the slice has 8 numbers.
        let all = unsafe { v128_load(sums[..8].as_ptr().cast()) };
        Pair(u32x4_extend_low_u16x8(all), u32x4_extend_high_u16x8(all))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: Pair) {
        // SAFETY: the caller promises 8 writable numbers.
        unsafe {
            v128_store(to.cast(), sums.0);
            v128_store(to.add(4).cast(), sums.1);
        }
    }

    #[inline(never)]
    fn vectorize<T: Task>(self, task: T) -> T::Output {
        // The whole module is compiled for these instructions.
        task.run(self)
    }
}
