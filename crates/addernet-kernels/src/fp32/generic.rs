//! The portable variant: arrays that the compiler turns into whatever vectors the target has.
#![allow(unsafe_code)]

use super::simd::{SimdF32, Task};

const LANES: usize = 8;

/// Needs nothing of the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generic;

impl SimdF32 for Generic {
    type V = [f32; LANES];

    const NAME: &'static str = "generic";
    const LANES: usize = LANES;
    const TILE: [usize; 2] = [4, 1];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::V {
        // SAFETY: the caller promises LANES readable floats.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Self::V) {
        // SAFETY: the caller promises LANES writable floats.
        unsafe { to.cast::<Self::V>().write_unaligned(value) }
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn add_abs_diff(self, acc: Self::V, x: Self::V, w: Self::V, _one: Self::V) -> Self::V {
        std::array::from_fn(|lane| acc[lane] + (x[lane] - w[lane]).abs())
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }

    #[inline(always)]
    fn clamp_diff(self, a: Self::V, b: Self::V, _one: Self::V) -> Self::V {
        std::array::from_fn(|lane| (a[lane] - b[lane]).clamp(-1.0, 1.0))
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        task.run(self)
    }
}
