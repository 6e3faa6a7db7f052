//! AVX2 with the dot products of AVX-VNNI on u8 codes: vectors of 32 bytes, 16 registers.
#![allow(unsafe_code)]

use super::{
    avx2_rescale::{self, Scale},
    avx2_u8::hide,
};
use crate::uint8::{
    rescale::{CodeRange, CodeRows, MapCodes},
    simd::{Constants, SimdU8, Task},
};
use std::arch::x86_64::*;

/// Exists only if the CPU has AVX2 and AVX-VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Vnni(());

impl Avx2Vnni {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"))
            .then_some(Self(()))
    }
}

/// `vpdpbusd` adds up twice the maxima of 4 neighbouring codes.
impl SimdU8 for Avx2Vnni {
    type Codes = __m256i;
    /// 32-bit lanes.
    type Sums = __m256i;
    /// Twos.
    type Factors = __m256i;

    const NAME: &'static str = "avx2-vnni";
    const LANES: usize = 8;
    const GROUP: usize = 4;
    const MAX_IDENTITY: bool = true;
    const PIXELS_2: usize = 5;
    const PIXELS_1: usize = 8;
    const SLIDE: bool = false;
    const DOT: usize = 4;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises 4 readable bytes.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises 32 readable bytes.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn start(self, x_sum: *const i32) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises a readable number.
        unsafe { _mm256_set1_epi32(*x_sum) }
    }

    #[inline(always)]
    unsafe fn add_bias(self, sums: __m256i, bias: &[i32]) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises 8 numbers.
        unsafe { _mm256_add_epi32(sums, _mm256_loadu_si256(bias.as_ptr().cast())) }
    }

    #[inline(always)]
    fn factors(self) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { hide(_mm256_set1_epi8(2)) }
    }

    #[inline(always)]
    fn accumulate(self, sums: __m256i, x: __m256i, w: __m256i, twos: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2 and AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, _mm256_max_epu8(x, w), twos) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: __m256i) {
        // SAFETY: the token proves AVX2; the caller promises 8 writable numbers.
        unsafe { _mm256_storeu_si256(to.cast(), sums) }
    }

    #[inline(always)]
    unsafe fn dot(self, sums: __m256i, x: *const u8, w: *const u8) -> __m256i {
        // SAFETY: the token proves AVX2 and AVX-VNNI; the caller promises 4 and 32 readable bytes.
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            _mm256_dpbusd_avx_epi32(sums, x, _mm256_loadu_si256(w.cast()))
        }
    }

    #[inline(always)]
    unsafe fn store_codes<const P: usize, const B: usize>(
        self,
        to: *mut u8,
        offset: impl Fn(usize) -> usize,
        sums: &[[__m256i; B]; P],
        constants: Constants,
        range: CodeRange,
    ) {
        // SAFETY: the token proves AVX2; the caller promises constants and codes.
        unsafe {
            let scales = Scale::load_all::<B>(constants);
            let z = |i: usize| scales[i % B].scale(sums[i / B][i % B]);
            let to = |i: usize| to.add(offset(i / B) + i % B * 8);
            avx2_rescale::store_codes(P * B, z, to, range);
        }
    }

    #[inline(always)]
    unsafe fn store_map<const P: usize, const B: usize>(
        self,
        map: *mut i16,
        offset: impl Fn(usize) -> usize,
        sums: &[[__m256i; B]; P],
        constants: Constants,
        residual: Option<*const i16>,
        low: i16,
        codes: &mut [MapCodes<'_>],
        place: impl Fn(&CodeRows<'_>, usize) -> usize,
    ) {
        // SAFETY: the token proves AVX2; the caller promises constants, residuals, values and codes.
        unsafe {
            let scales = Scale::load_all::<B>(constants);
            let z = |i: usize| scales[i % B].scale(sums[i / B][i % B]);
            let at = |i: usize| offset(i / B) + i % B * 8;
            let place = |rows: &CodeRows<'_>, i: usize| place(rows, i / B) + i % B * 8;
            avx2_rescale::store_map(P * B, z, map, at, residual, low, codes, place);
        }
    }

    #[inline(always)]
    fn forget(self, codes: &mut __m256i) {
        // SAFETY: the token proves AVX2.
        *codes = unsafe { hide(*codes) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,avxvnni")]
        fn inner<T: Task>(simd: Avx2Vnni, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX2 and AVX-VNNI.
        unsafe { inner(self, task) }
    }
}
