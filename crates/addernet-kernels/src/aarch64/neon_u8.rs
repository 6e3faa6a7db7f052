//! NEON on u8 codes: registers of 16 bytes, 32 of them; with and without dot products. A vector is a
//! pair of registers, so that one broadcast input serves four registers of a two-vector tile.
#![allow(unsafe_code)]

use super::neon_fours::look_up;
use crate::uint8::{
    fours::{Sums, Window},
    simd::{SimdU8, Task},
};
use std::arch::{aarch64::*, asm, is_aarch64_feature_detected};

/// Exists only if the CPU has NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonU8(());

impl NeonU8 {
    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

/// `uabd`, then two pairwise additions.
impl SimdU8 for NeonU8 {
    type Codes = uint8x16x2_t;
    type Sums = uint32x4x2_t;
    type Factors = ();

    const NAME: &'static str = "neon";
    const LANES: usize = 8;
    const GROUP: usize = 4;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 4;
    const PIXELS_1: usize = 8;
    const SLIDE: bool = false;
    const FOURS: usize = 1;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> uint8x16x2_t {
        // SAFETY: the caller promises 4 readable bytes.
        unsafe { broadcast(from) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> uint8x16x2_t {
        // SAFETY: the token proves NEON; the caller promises 32 readable bytes.
        unsafe { uint8x16x2_t(vld1q_u8(from), vld1q_u8(from.add(16))) }
    }

    #[inline(always)]
    unsafe fn start(self, _x_sum: *const i32) -> uint32x4x2_t {
        // SAFETY: the token proves NEON.
        let half = unsafe { vdupq_n_u32(0) };
        uint32x4x2_t(half, half)
    }

    #[inline(always)]
    fn factors(self) {}

    #[inline(always)]
    fn accumulate(
        self,
        sums: uint32x4x2_t,
        x: uint8x16x2_t,
        w: uint8x16x2_t,
        (): (),
    ) -> uint32x4x2_t {
        // SAFETY: the token proves NEON.
        unsafe {
            uint32x4x2_t(
                vpadalq_u16(sums.0, vpaddlq_u8(vabdq_u8(x.0, w.0))),
                vpadalq_u16(sums.1, vpaddlq_u8(vabdq_u8(x.1, w.1))),
            )
        }
    }

    #[inline(always)]
    unsafe fn look_up_fours<const P: usize, const B: usize>(
        self,
        x: [*const u16; P],
        w: [*const u8; B],
        window: Window,
        sums: &mut [Sums; B],
    ) {
        // SAFETY: the token proves NEON; the caller promises windows and blocks.
        unsafe { look_up(x, w, window, sums) }
    }

    #[inline(always)]
    fn widen(self, sums: &[u16]) -> uint32x4x2_t {
        // SAFETY: the token proves NEON.
        unsafe { widen(sums) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: uint32x4x2_t) {
        // SAFETY: the caller promises 8 writable numbers.
        unsafe { store(to, sums) }
    }

    #[inline(always)]
    fn forget(self, codes: &mut uint8x16x2_t) {
        // SAFETY: the token proves NEON.
        *codes = unsafe { hide(*codes) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        fn inner<T: Task>(simd: NeonU8, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves NEON.
        unsafe { inner(self, task) }
    }
}

/// Exists only if the CPU has NEON and its dot products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonDot(());

impl NeonDot {
    pub(crate) fn detect() -> Option<Self> {
        (NeonU8::detect().is_some() && is_aarch64_feature_detected!("dotprod")).then_some(Self(()))
    }
}

/// `uabd`, then a dot product with ones.
impl SimdU8 for NeonDot {
    type Codes = uint8x16x2_t;
    type Sums = uint32x4x2_t;
    type Factors = ();

    const NAME: &'static str = "neon-dotprod";
    const LANES: usize = 8;
    const GROUP: usize = 4;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 4;
    const PIXELS_1: usize = 8;
    const SLIDE: bool = false;
    const FOURS: usize = 1;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> uint8x16x2_t {
        // SAFETY: the caller promises 4 readable bytes.
        unsafe { broadcast(from) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> uint8x16x2_t {
        // SAFETY: the token proves NEON; the caller promises 32 readable bytes.
        unsafe { uint8x16x2_t(vld1q_u8(from), vld1q_u8(from.add(16))) }
    }

    #[inline(always)]
    unsafe fn start(self, _x_sum: *const i32) -> uint32x4x2_t {
        // SAFETY: the token proves NEON.
        let half = unsafe { vdupq_n_u32(0) };
        uint32x4x2_t(half, half)
    }

    #[inline(always)]
    fn factors(self) {}

    #[inline(always)]
    fn accumulate(
        self,
        sums: uint32x4x2_t,
        x: uint8x16x2_t,
        w: uint8x16x2_t,
        (): (),
    ) -> uint32x4x2_t {
        // SAFETY: the token proves NEON and its dot products.
        unsafe {
            let ones = vdupq_n_u8(1);
            uint32x4x2_t(
                dot(sums.0, vabdq_u8(x.0, w.0), ones),
                dot(sums.1, vabdq_u8(x.1, w.1), ones),
            )
        }
    }

    #[inline(always)]
    unsafe fn look_up_fours<const P: usize, const B: usize>(
        self,
        x: [*const u16; P],
        w: [*const u8; B],
        window: Window,
        sums: &mut [Sums; B],
    ) {
        // SAFETY: the token proves NEON; the caller promises windows and blocks.
        unsafe { look_up(x, w, window, sums) }
    }

    #[inline(always)]
    fn widen(self, sums: &[u16]) -> uint32x4x2_t {
        // SAFETY: the token proves NEON.
        unsafe { widen(sums) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: uint32x4x2_t) {
        // SAFETY: the caller promises 8 writable numbers.
        unsafe { store(to, sums) }
    }

    #[inline(always)]
    fn forget(self, codes: &mut uint8x16x2_t) {
        // SAFETY: the token proves NEON.
        *codes = unsafe { hide(*codes) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[inline(never)]
        #[target_feature(enable = "neon,dotprod")]
        fn inner<T: Task>(simd: NeonDot, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves NEON and its dot products.
        unsafe { inner(self, task) }
    }
}

/// # Safety
/// `from` must be valid for reads of 4 bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn broadcast(from: *const u8) -> uint8x16x2_t {
    // SAFETY: the caller promises 4 readable bytes.
    let group = unsafe { from.cast::<u32>().read_unaligned() };
    let half = vreinterpretq_u8_u32(vdupq_n_u32(group));
    uint8x16x2_t(half, half)
}

/// # Safety
/// `to` must be valid for writes of 8 numbers.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(to: *mut i32, sums: uint32x4x2_t) {
    // SAFETY: the caller promises 8 writable numbers.
    unsafe {
        vst1q_u32(to.cast(), sums.0);
        vst1q_u32(to.cast::<u32>().add(4), sums.1);
    }
}

/// The first 8 of some sums.
#[inline]
#[target_feature(enable = "neon")]
fn widen(sums: &[u16]) -> uint32x4x2_t {
    // SAFETY: the slice has 8 numbers.
    let all = unsafe { vld1q_u16(sums[..8].as_ptr()) };
    uint32x4x2_t(vmovl_u16(vget_low_u16(all)), vmovl_high_u16(all))
}

/// `udot`, whose intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut sums: uint32x4_t, a: uint8x16_t, b: uint8x16_t) -> uint32x4_t {
    // SAFETY: the instruction touches these registers only and exists where this function runs.
    unsafe {
        asm!(
            "udot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums,
            in(vreg) a,
            in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

#[inline]
#[target_feature(enable = "neon")]
fn hide(mut codes: uint8x16x2_t) -> uint8x16x2_t {
    // SAFETY: there is no instruction in it.
    unsafe {
        asm!(
            "/* {0:q} {1:q} */",
            inout(vreg) codes.0,
            inout(vreg) codes.1,
            options(nomem, nostack, preserves_flags)
        );
    }
    codes
}
