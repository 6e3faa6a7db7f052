//! simd128 on floats: 4 in a register. A vector is a pair of registers, as on Arm; engines on x86-64 have 16 of them.
#![allow(unsafe_code)]

use crate::fp32::simd::{SimdF32, Task};
use std::arch::wasm32::*;

/// The module runs, so the machine has vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simd128;

/// Two registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair(v128, v128);

impl Pair {
    #[inline(always)]
    fn zip(self, other: Self, of: impl Fn(v128, v128) -> v128) -> Self {
        Self(of(self.0, other.0), of(self.1, other.1))
    }
}

impl SimdF32 for Simd128 {
    type V = Pair;

    const NAME: &'static str = "simd128";
    const LANES: usize = 8;
    const TILE: [usize; 2] = [2, 2];

    #[inline(always)]
    fn splat(self, value: f32) -> Pair {
        let half = f32x4_splat(value);
        Pair(half, half)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Pair {
        // SAFETY: the caller promises 8 readable floats.
        unsafe { Pair(v128_load(from.cast()), v128_load(from.add(4).cast())) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Pair) {
        // SAFETY: the caller promises 8 writable floats.
        unsafe {
            v128_store(to.cast(), value.0);
            v128_store(to.add(4).cast(), value.1);
        }
    }

    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        a.zip(b, |a, b| f32x4_sub(a, b))
    }

    #[inline(always)]
    fn add_abs_diff(self, acc: Pair, x: Pair, w: Pair, _one: Pair) -> Pair {
        acc.zip(x.zip(w, |x, w| f32x4_abs(f32x4_sub(x, w))), |a, b| {
            f32x4_add(a, b)
        })
    }

    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        a.zip(b, |a, b| f32x4_mul(a, b))
            .zip(c, |a, b| f32x4_add(a, b))
    }

    #[inline(always)]
    fn clamp_diff(self, a: Pair, b: Pair, one: Pair) -> Pair {
        // The pseudo-minimum and -maximum are single instructions on x86-64; they differ in what becomes of NaN.
        let above = |d, one| f32x4_pmax(f32x4_neg(one), d);
        a.zip(b, |a, b| f32x4_sub(a, b))
            .zip(one, |d, one| above(f32x4_pmin(one, d), one))
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        // The whole module is compiled for these instructions.
        task.run(self)
    }
}
