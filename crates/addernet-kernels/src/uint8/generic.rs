//! The portable variant: arrays that the compiler turns into whatever vectors the target has.
#![allow(unsafe_code)]

use super::simd::{SimdU8, Task};

const LANES: usize = 4;
const GROUP: usize = 4;

/// Needs nothing of the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generic;

impl SimdU8 for Generic {
    type Codes = [u8; LANES * GROUP];
    type Sums = [i32; LANES];

    const NAME: &'static str = "generic";
    const LANES: usize = LANES;
    const GROUP: usize = GROUP;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 0;
    const PIXELS_1: usize = 4;
    const SLIDE: bool = false;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> Self::Codes {
        // SAFETY: the caller promises GROUP readable bytes.
        let group = unsafe { from.cast::<[u8; GROUP]>().read_unaligned() };
        std::array::from_fn(|at| group[at % GROUP])
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> Self::Codes {
        // SAFETY: the caller promises a vector of readable bytes.
        unsafe { from.cast::<Self::Codes>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn start(self, _bias: *const i32, _x_sum: *const i32) -> Self::Sums {
        [0; LANES]
    }

    #[inline(always)]
    fn accumulate(self, sums: Self::Sums, x: Self::Codes, w: Self::Codes) -> Self::Sums {
        let difference: Self::Codes = std::array::from_fn(|at| x[at].abs_diff(w[at]));
        std::array::from_fn(|lane| {
            let terms = &difference[lane * GROUP..(lane + 1) * GROUP];
            sums[lane] + terms.iter().map(|&term| i32::from(term)).sum::<i32>()
        })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: Self::Sums) {
        // SAFETY: the caller promises LANES writable numbers.
        unsafe { to.cast::<Self::Sums>().write_unaligned(sums) }
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        task.run(self)
    }
}
