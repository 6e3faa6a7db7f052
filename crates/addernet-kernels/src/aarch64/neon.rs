//! NEON: registers of 4 floats, 32 of them. A vector is a pair of registers, so that one broadcast
//! input serves four registers of a two-vector tile.
#![allow(unsafe_code)]

use crate::fp32::simd::{SimdF32, Task};
use std::arch::{aarch64::*, asm, is_aarch64_feature_detected};

/// Exists only if the CPU has NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

impl SimdF32 for Neon {
    type V = float32x4x2_t;

    const NAME: &'static str = "neon";
    const LANES: usize = 8;
    const TILE: [usize; 2] = [4, 2];

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4x2_t {
        // SAFETY: the token proves NEON.
        let half = unsafe { vdupq_n_f32(value) };
        float32x4x2_t(half, half)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4x2_t {
        // SAFETY: the token proves NEON; the caller promises 8 readable floats.
        unsafe { float32x4x2_t(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: float32x4x2_t) {
        // SAFETY: the token proves NEON; the caller promises 8 writable floats.
        unsafe {
            vst1q_f32(to, value.0);
            vst1q_f32(to.add(4), value.1);
        }
    }

    #[inline(always)]
    fn sub(self, a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
        // SAFETY: the token proves NEON.
        unsafe { float32x4x2_t(vsubq_f32(a.0, b.0), vsubq_f32(a.1, b.1)) }
    }

    #[inline(always)]
    fn add_abs_diff(
        self,
        acc: float32x4x2_t,
        x: float32x4x2_t,
        w: float32x4x2_t,
        _one: float32x4x2_t,
    ) -> float32x4x2_t {
        // FABD rounds the difference, then drops its sign: the reference's two steps in one
        // instruction.
        // SAFETY: the token proves NEON.
        unsafe {
            float32x4x2_t(
                vaddq_f32(acc.0, vabdq_f32(x.0, w.0)),
                vaddq_f32(acc.1, vabdq_f32(x.1, w.1)),
            )
        }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4x2_t, b: float32x4x2_t, c: float32x4x2_t) -> float32x4x2_t {
        // SAFETY: the token proves NEON.
        unsafe { float32x4x2_t(vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1)) }
    }

    #[inline(always)]
    fn clamp_diff(self, a: float32x4x2_t, b: float32x4x2_t, one: float32x4x2_t) -> float32x4x2_t {
        // SAFETY: the token proves NEON.
        unsafe {
            let clamp = |d, one| vmaxq_f32(vminq_f32(d, one), vnegq_f32(one));
            float32x4x2_t(
                clamp(vsubq_f32(a.0, b.0), one.0),
                clamp(vsubq_f32(a.1, b.1), one.1),
            )
        }
    }

    #[inline(always)]
    fn forget(self, vector: &mut float32x4x2_t) {
        #[inline]
        #[target_feature(enable = "neon")]
        fn hide(mut vector: float32x4x2_t) -> float32x4x2_t {
            // SAFETY: there is no instruction in it.
            unsafe {
                asm!(
                    "/* {0:q} {1:q} */",
                    inout(vreg) vector.0,
                    inout(vreg) vector.1,
                    options(nomem, nostack, preserves_flags)
                );
            }
            vector
        }
        // SAFETY: the token proves NEON.
        *vector = unsafe { hide(*vector) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "neon")]
        fn inner<T: Task>(simd: Neon, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves NEON.
        unsafe { inner(self, task) }
    }
}
