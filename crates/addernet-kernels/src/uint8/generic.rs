//! The portable variant: arrays that the compiler turns into whatever vectors the target has.
#![allow(unsafe_code)]

use super::simd::{SimdU8, Task};

const LANES: usize = 16;

/// Needs nothing of the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generic;

impl SimdU8 for Generic {
    type Codes = [u8; LANES];
    type Sums = [i32; LANES];
    type Factors = ();

    const NAME: &'static str = "generic";
    const LANES: usize = LANES;
    const GROUP: usize = 1;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 0;
    const PIXELS_1: usize = 2;
    const SLIDE: bool = false;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> Self::Codes {
        // SAFETY: the caller promises a readable byte.
        [unsafe { *from }; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Self::Codes {
        // SAFETY: the caller promises a vector of readable bytes.
        unsafe { from.cast::<Self::Codes>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn start(self, _x_sum: *const i32) -> Self::Sums {
        [0; LANES]
    }

    #[inline(always)]
    fn factors(self) {}

    #[inline(always)]
    fn accumulate(self, sums: Self::Sums, x: Self::Codes, w: Self::Codes, (): ()) -> Self::Sums {
        std::array::from_fn(|lane| sums[lane] + i32::from(x[lane].abs_diff(w[lane])))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: Self::Sums) {
        // SAFETY: the caller promises LANES writable numbers.
        unsafe { to.cast::<Self::Sums>().write_unaligned(sums) }
    }

    #[inline(never)]
    fn vectorize<T: Task>(self, task: T) -> T::Output {
        task.run(self)
    }
}
