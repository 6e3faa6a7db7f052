//! AVX2 on u8 codes: vectors of 32 bytes, 16 registers; with and without the dot products of
//! AVX-VNNI.
#![allow(unsafe_code)]

use super::{
    avx2_fours, avx2_quads,
    avx2_rescale::{self, Scale, low_halves},
};
use crate::uint8::{
    fours::{Sums, Window},
    rescale::{CodeRange, CodeRows, MapCodes},
    simd::{Constants, DotWindow, SimdU8, Task},
};
use std::arch::{asm, x86_64::*};

/// Exists only if the CPU has AVX2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2U8(());

impl Avx2U8 {
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

/// `vpsadbw` adds up the absolute differences of 8 neighbouring codes.
impl SimdU8 for Avx2U8 {
    type Codes = __m256i;
    /// 64-bit lanes.
    type Sums = __m256i;
    type Factors = ();

    const NAME: &'static str = "avx2";
    const LANES: usize = 4;
    const GROUP: usize = 8;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 4;
    const PIXELS_1: usize = 8;
    const SLIDE: usize = 1;
    const FOURS: bool = true;
    const DOT: bool = true;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises 8 readable bytes.
        unsafe { _mm256_set1_epi64x(from.cast::<i64>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises 32 readable bytes.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn start(self, _x_sum: *const i32) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn factors(self) {}

    #[inline(always)]
    fn accumulate(self, sums: __m256i, x: __m256i, w: __m256i, (): ()) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_add_epi64(sums, _mm256_sad_epu8(x, w)) }
    }

    #[inline(always)]
    fn accumulate_two(
        self,
        sums: [__m256i; 2],
        x: [__m256i; 2],
        w: [__m256i; 2],
        (): (),
    ) -> [__m256i; 2] {
        // SAFETY: the token proves AVX2.
        unsafe { sad_sad_add_add(sums, x, w) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: __m256i) {
        // SAFETY: the token proves AVX2; the caller promises 4 writable numbers.
        unsafe {
            let even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
            let low = _mm256_permutevar8x32_epi32(sums, even);
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(low));
        }
    }

    #[inline(always)]
    fn join_fours(self, codes: &[u8], to: &mut [u16]) {
        // SAFETY: the token proves AVX2.
        unsafe { avx2_fours::join(codes, to) }
    }

    #[inline(always)]
    unsafe fn look_up_fours<const P: usize, const B: usize>(
        self,
        x: [*const u16; P],
        w: [*const u8; B],
        window: Window,
        sums: &mut [Sums; B],
    ) {
        // SAFETY: the token proves AVX2; the caller promises windows and blocks.
        unsafe { avx2_fours::look_up(x, w, window, sums) }
    }

    #[inline(always)]
    fn widen(self, sums: &[u16]) -> __m256i {
        // SAFETY: the token proves AVX2; the slice has 4 numbers.
        unsafe { _mm256_cvtepu16_epi64(_mm_loadl_epi64(sums[..4].as_ptr().cast())) }
    }

    /// In products of 16 bits, since those of 8 saturate; the first two are added up in the lower half of a lane, the
    /// last two in the upper one.
    #[inline(always)]
    unsafe fn dot(self, sums: __m256i, x: *const u8, w: *const i8) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises 4 and 16 readable bytes.
        unsafe {
            let x = _mm_set1_epi32(x.cast::<i32>().read_unaligned());
            let w = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.cast()));
            _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_cvtepu8_epi16(x), w))
        }
    }

    #[inline(always)]
    fn end_dots(self, sums: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_add_epi32(sums, _mm256_srli_epi64::<32>(sums)) }
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
            if B.is_multiple_of(2) {
                let z = octets(sums, constants);
                let to = |i: usize| to.add(offset(2 * i / B) + 2 * i % B * 4);
                avx2_rescale::store_codes(P * B / 2, z, to, range);
            } else {
                avx2_quads::store_codes(sums, constants, |p| to.add(offset(p)), range);
            }
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
            if B.is_multiple_of(2) {
                let z = octets(sums, constants);
                let at = |i: usize| offset(2 * i / B) + 2 * i % B * 4;
                let place = |rows: &CodeRows<'_>, i: usize| place(rows, 2 * i / B) + 2 * i % B * 4;
                avx2_rescale::store_map(P * B / 2, z, map, at, residual, low, codes, place);
            } else {
                avx2_quads::store_map(sums, constants, map, offset, residual, low, codes, place);
            }
        }
    }

    #[inline(always)]
    fn forget(self, codes: &mut __m256i) {
        // SAFETY: the token proves AVX2.
        *codes = unsafe { hide(*codes) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2")]
        fn inner<T: Task>(simd: Avx2U8, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX2.
        unsafe { inner(self, task) }
    }
}

/// Exists only if the CPU has AVX2 and AVX-VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Vnni(());

impl Avx2Vnni {
    pub(crate) fn detect() -> Option<Self> {
        (Avx2U8::detect().is_some() && is_x86_feature_detected!("avxvnni")).then_some(Self(()))
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
    const SLIDE: usize = 0;
    const DOT: bool = true;

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
    unsafe fn dot(self, sums: __m256i, x: *const u8, w: *const i8) -> __m256i {
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
        #[target_feature(enable = "avx2,avxvnni")]
        fn inner<T: Task>(simd: Avx2Vnni, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX2 and AVX-VNNI.
        unsafe { inner(self, task) }
    }
}

/// The scaled sums of each octet of a tile of 2 or 4 vectors.
///
/// # Safety
/// The CPU must have AVX2, and the constants be valid for reads of 4 `B` numbers each.
#[inline(always)]
unsafe fn octets<const P: usize, const B: usize>(
    sums: &[[__m256i; B]; P],
    constants: Constants,
) -> impl Fn(usize) -> __m256i {
    let scales = match B {
        // SAFETY: the caller promises AVX2 and the constants.
        4 => unsafe { Scale::load_all::<2>(constants) },
        // SAFETY: as above.
        _ => [unsafe { Scale::load(constants) }; 2],
    };
    move |i: usize| {
        let [pixel, first] = [2 * i / B, 2 * i % B];
        // SAFETY: the caller promises AVX2.
        unsafe {
            scales[first / 2].scale(low_halves(sums[pixel][first], sums[pixel][(first + 1) % B]))
        }
    }
}

/// Two sums of absolute differences and then their additions, which can start in twice as many pipes: in another
/// order they are in the differences' way. The inline assembly, which has the additions alone, keeps the order.
#[inline]
#[target_feature(enable = "avx2")]
fn sad_sad_add_add(sums: [__m256i; 2], x: [__m256i; 2], w: [__m256i; 2]) -> [__m256i; 2] {
    let [mut first, mut second] = sums;
    let (a, b) = (_mm256_sad_epu8(x[0], w[0]), _mm256_sad_epu8(x[1], w[1]));
    // SAFETY: AVX2 has these instructions, which touch nothing but the registers named.
    unsafe {
        asm!(
            "vpaddq {first}, {first}, {a}",
            "vpaddq {second}, {second}, {b}",
            first = inout(ymm_reg) first,
            second = inout(ymm_reg) second,
            a = in(ymm_reg) a,
            b = in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [first, second]
}

/// [`SimdU8::dot_pair`]: products of 16 bits, since those of 8 saturate, two of them added at once.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn dot_pair(
    x: [*const u8; 2],
    window: DotWindow,
    w: *const i8,
) -> [[i32; 16]; 2] {
    let DotWindow {
        height,
        groups,
        row_len,
    } = window;
    // Of each channel two sums, those of its group's first and last two products.
    let mut sums = [[_mm256_setzero_si256(); 4]; 2];
    for row in 0..height {
        for group in 0..groups {
            let mut weights = [_mm256_setzero_si256(); 4];
            for (quarter, weights) in weights.iter_mut().enumerate() {
                // SAFETY: the caller promises 64 weights for each group.
                let w = unsafe { w.add((row * groups + group) * 64 + quarter * 16) };
                // SAFETY: these are 16 of them.
                *weights = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(w.cast()) });
            }
            for (sums, x) in sums.iter_mut().zip(x) {
                // SAFETY: the caller promises the window.
                let x = unsafe {
                    x.add(row * row_len + group * 4)
                        .cast::<i32>()
                        .read_unaligned()
                };
                let x = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(x)));
                for (sum, w) in sums.iter_mut().zip(weights) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
                }
            }
        }
    }
    let mut all = [[0; 16]; 2];
    for (all, sums) in all.iter_mut().zip(sums) {
        for (half, pair) in sums.as_chunks::<2>().0.iter().enumerate() {
            // Within the halves of a register; then its middle quarters change places.
            let added = _mm256_hadd_epi32(pair[0], pair[1]);
            let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(added);
            // SAFETY: `all` has 8 numbers from there on.
            unsafe { _mm256_storeu_si256(all[half * 8..].as_mut_ptr().cast(), ordered) };
        }
    }
    all
}

#[inline]
#[target_feature(enable = "avx2")]
fn hide(mut codes: __m256i) -> __m256i {
    // SAFETY: there is no instruction in it.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) codes, options(nomem, nostack, preserves_flags));
    }
    codes
}
