//! AVX2 with FMA: vectors of 8 floats, 16 registers.
#![allow(unsafe_code)]

use crate::fp32::simd::{SimdF32, Task};
use std::arch::{asm, x86_64::*};

/// Exists only if the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

impl SimdF32 for Avx2 {
    type V = __m256;

    const NAME: &'static str = "avx2";
    const LANES: usize = 8;
    const TILE: [usize; 2] = [4, 2];

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA; the caller promises 8 readable floats.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        // SAFETY: the token proves AVX2 and FMA; the caller promises 8 writable floats.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn add_abs_diff(self, acc: __m256, x: __m256, w: __m256, one: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe {
            let difference = _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_sub_ps(w, x));
            // One FADD and one FMA per term instead of two FADDs: the cores have pipes for both.
            _mm256_fmadd_ps(difference, one, acc)
        }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn clamp_diff(self, a: __m256, b: __m256, one: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe {
            let low = _mm256_sub_ps(_mm256_setzero_ps(), one);
            _mm256_max_ps(_mm256_min_ps(_mm256_sub_ps(a, b), one), low)
        }
    }

    #[inline(always)]
    fn forget(self, vector: &mut __m256) {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn hide(mut vector: __m256) -> __m256 {
            // SAFETY: there is no instruction in it.
            unsafe {
                asm!("/* {0} */", inout(ymm_reg) vector, options(nomem, nostack, preserves_flags));
            }
            vector
        }
        // SAFETY: the token proves AVX2 and FMA.
        *vector = unsafe { hide(*vector) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma")]
        fn inner<T: Task>(simd: Avx2, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { inner(self, task) }
    }
}
