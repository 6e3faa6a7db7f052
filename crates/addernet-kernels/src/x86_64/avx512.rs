//! AVX-512: vectors of 16 floats, 32 registers.
#![allow(unsafe_code)]

use crate::fp32::simd::{SimdF32, Task};
use std::arch::{asm, x86_64::*};

/// Exists only if the CPU has AVX-512F and AVX-512DQ (every CPU with the former but Xeon Phi).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq"))
            .then_some(Self(()))
    }
}

impl SimdF32 for Avx512 {
    type V = __m512;

    const NAME: &'static str = "avx512";
    const LANES: usize = 16;
    const TILE: [usize; 2] = [8, 2];

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the token proves AVX-512F; the caller promises 16 readable floats.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        // SAFETY: the token proves AVX-512F; the caller promises 16 writable floats.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn add_abs_diff(self, acc: __m512, x: __m512, w: __m512, one: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let difference = _mm512_abs_ps(_mm512_sub_ps(w, x));
            // One FADD and one FMA per term instead of two FADDs: the cores have pipes for both.
            _mm512_fmadd_ps(difference, one, acc)
        }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn clamp_diff(self, a: __m512, b: __m512, one: __m512) -> __m512 {
        // The smaller magnitude of the two, with the first one's sign: a clamp in one instruction.
        const SMALLER_MAGNITUDE: i32 = 0b0010;
        // SAFETY: the token proves AVX-512F and AVX-512DQ.
        unsafe { _mm512_range_ps::<SMALLER_MAGNITUDE>(_mm512_sub_ps(a, b), one) }
    }

    #[inline(always)]
    fn forget(self, vector: &mut __m512) {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn hide(mut vector: __m512) -> __m512 {
            // SAFETY: there is no instruction in it.
            unsafe {
                asm!("/* {0} */", inout(zmm_reg) vector, options(nomem, nostack, preserves_flags));
            }
            vector
        }
        // SAFETY: the token proves AVX-512F.
        *vector = unsafe { hide(*vector) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx512f,avx512dq")]
        fn inner<T: Task>(simd: Avx512, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX-512F.
        unsafe { inner(self, task) }
    }
}
