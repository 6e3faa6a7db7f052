//! AVX-512 on u8 codes: vectors of 64 bytes, 32 registers; with and without the dot products of
//! VNNI.
#![allow(unsafe_code)]

use crate::uint8::{
    box_sum, pixels,
    rescale::CodeRange,
    simd::{Constants, SimdU8, Task},
};
use std::arch::{asm, x86_64::*};

/// Exists only if the CPU has AVX-512F and AVX-512BW.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512U8(());

impl Avx512U8 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then_some(Self(()))
    }
}

/// `vpsadbw` adds up the absolute differences of 8 neighbouring codes.
impl SimdU8 for Avx512U8 {
    type Codes = __m512i;
    /// 64-bit lanes.
    type Sums = __m512i;

    const NAME: &'static str = "avx512";
    const LANES: usize = 8;
    const GROUP: usize = 8;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 8;
    const PIXELS_1: usize = 8;
    const SLIDE: bool = true;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 8 readable bytes.
        unsafe { _mm512_set1_epi64(from.cast::<i64>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn start(self, _bias: *const i32, _x_sum: *const i32) -> __m512i {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn accumulate(self, sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe { _mm512_add_epi64(sums, _mm512_sad_epu8(x, w)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: __m512i) {
        // SAFETY: the token proves AVX-512F; the caller promises 8 writable numbers.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi64_epi32(sums)) }
    }

    #[inline(always)]
    fn forget(self, codes: &mut __m512i) {
        // SAFETY: the token proves AVX-512F.
        *codes = unsafe { hide(*codes) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx512f,avx512bw")]
        fn inner<T: Task>(simd: Avx512U8, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe { inner(self, task) }
    }
}

/// Exists only if the CPU has AVX-512F, AVX-512BW and AVX-512 VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    pub(crate) fn detect() -> Option<Self> {
        (Avx512U8::detect().is_some() && is_x86_feature_detected!("avx512vnni")).then_some(Self(()))
    }
}

/// `vpdpbusd` adds up twice the maxima of 4 neighbouring codes.
impl SimdU8 for Avx512Vnni {
    type Codes = __m512i;
    /// 32-bit lanes.
    type Sums = __m512i;

    const NAME: &'static str = "avx512-vnni";
    const LANES: usize = 16;
    const GROUP: usize = 4;
    const MAX_IDENTITY: bool = true;
    const PIXELS_2: usize = 8;
    const PIXELS_1: usize = 16;
    const SLIDE: bool = true;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 4 readable bytes.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn start(self, bias: *const i32, x_sum: *const i32) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 16 readable numbers and one.
        unsafe { _mm512_sub_epi32(_mm512_loadu_si512(bias.cast()), _mm512_set1_epi32(*x_sum)) }
    }

    #[inline(always)]
    fn pixel_sums(self, x: &[u8], channels: usize, sums: &mut [i32]) {
        if channels == 16 {
            // SAFETY: the token proves AVX-512F and AVX-512BW.
            unsafe { pixel_sums_16(x, sums) };
        } else {
            box_sum::pixel_sums(x, channels, sums);
        }
    }

    #[inline(always)]
    fn accumulate(self, sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512F, AVX-512BW and VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_max_epu8(x, w), _mm512_set1_epi8(2)) }
    }

    #[inline(always)]
    fn pixel_products(
        self,
        windows: &pixels::Windows<'_>,
        weights: &[i8],
        to: &mut [[i32; pixels::LANES]],
    ) {
        windows.check(weights);
        let to = &mut to[..windows.count];
        let mut first = 0;
        // SAFETY: the token proves AVX-512F and VNNI; `check` found that the windows from `first` on
        // lie inside the input, and each call gets that many or fewer.
        unsafe {
            let (tiles, rest) = to.as_chunks_mut::<8>();
            for to in tiles {
                pixel_products(windows, first, weights, to);
                first += to.len();
            }
            for to in rest {
                pixel_products(windows, first, weights, std::array::from_mut(to));
                first += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: __m512i) {
        // SAFETY: the token proves AVX-512F; the caller promises 16 writable numbers.
        unsafe { _mm512_storeu_si512(to.cast(), sums) }
    }

    #[inline(always)]
    unsafe fn store_codes(
        self,
        to: *mut u8,
        sums: __m512i,
        constants: Constants,
        range: CodeRange,
    ) {
        // SAFETY: the token proves AVX-512F; the caller promises 16 constants each and 16 codes.
        unsafe {
            let z = _mm512_max_epi32(scale(sums, constants), _mm512_setzero_si512());
            let mut q = _mm512_min_epi32(z, _mm512_set1_epi32(range.max.into()));
            if range.factor != 1 {
                q = _mm512_mullo_epi32(q, _mm512_set1_epi32(range.factor.into()));
            }
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(q));
        }
    }

    #[inline(always)]
    unsafe fn store_map(
        self,
        to: *mut i16,
        sums: __m512i,
        constants: Constants,
        residual: Option<*const i16>,
        low: i16,
    ) {
        // SAFETY: the token proves AVX-512F; the caller promises 16 constants each, 16 residuals and 16
        // values.
        unsafe {
            let mut z = scale(sums, constants);
            if let Some(residual) = residual {
                let residual = _mm256_loadu_si256(residual.cast());
                z = _mm512_add_epi32(z, _mm512_cvtepi16_epi32(residual));
            }
            let z = _mm512_max_epi32(z, _mm512_set1_epi32(low.into()));
            _mm256_storeu_si256(to.cast(), _mm512_cvtsepi32_epi16(z));
        }
    }

    #[inline(always)]
    fn forget(self, codes: &mut __m512i) {
        // SAFETY: the token proves AVX-512F.
        *codes = unsafe { hide(*codes) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn inner<T: Task>(simd: Avx512Vnni, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX-512F, AVX-512BW and VNNI.
        unsafe { inner(self, task) }
    }
}

/// (s · multiplier + offset) >> shift in 16 lanes.
///
/// # Safety
/// The constants must be valid for reads of 16 numbers each.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scale(sums: __m512i, constants: Constants) -> __m512i {
    // SAFETY: the caller promises 16 readable numbers each.
    let (multiplier, offset, shift) = unsafe {
        (
            _mm512_loadu_si512(constants.multiplier.cast()),
            _mm512_loadu_si512(constants.offset.cast()),
            _mm512_loadu_si512(constants.shift.cast()),
        )
    };
    let product = _mm512_add_epi32(_mm512_mullo_epi32(sums, multiplier), offset);
    _mm512_srav_epi32(product, shift)
}

/// The products of `P` windows from `first` on with a block of 16 kernels.
///
/// # Safety
/// The windows must lie inside the input, and the weights be those of one block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn pixel_products<const P: usize>(
    windows: &pixels::Windows<'_>,
    first: usize,
    weights: &[i8],
    to: &mut [[i32; pixels::LANES]; P],
) {
    let mut sums = [_mm512_setzero_si512(); P];
    let mut w = weights.as_ptr();
    let mut row = windows.x.as_ptr().wrapping_add(first * windows.step);
    for _ in 0..windows.height {
        for group in 0..windows.row_groups {
            // SAFETY: the vector is inside the block, which the caller promises.
            let weights = unsafe { _mm512_loadu_si512(w.cast()) };
            w = w.wrapping_add(64);
            for (p, sum) in sums.iter_mut().enumerate() {
                let x = row.wrapping_add(p * windows.step + group * pixels::PIXEL_GROUP);
                // SAFETY: the group is inside the window, which the caller promises.
                let x = _mm512_set1_epi32(unsafe { x.cast::<i32>().read_unaligned() });
                *sum = _mm512_dpbusd_epi32(*sum, x, weights);
            }
        }
        row = row.wrapping_add(windows.row_len);
    }
    for (to, sum) in to.iter_mut().zip(sums) {
        // SAFETY: `to` has 16 numbers.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), sum) };
    }
}

/// The sums of pixels of 16 channels, 16 pixels at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pixel_sums_16(x: &[u8], sums: &mut [i32]) {
    // Quadword 2i of the first operand is pixel i of `a`, 2i + 1 that of `b`; likewise `c`, `d`.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 16, 20, 24, 28, 18, 22, 26, 30);
    let (x, rest) = x.as_chunks::<256>();
    let (sums, last) = sums.split_at_mut(x.len() * 16);
    for (x, sums) in x.iter().zip(sums.as_chunks_mut::<16>().0) {
        let halves = |quarter: usize| {
            // SAFETY: `x` has four quarters of 64 bytes.
            let codes = unsafe { _mm512_loadu_si512(x.as_ptr().add(quarter * 64).cast()) };
            _mm512_sad_epu8(codes, _mm512_setzero_si512())
        };
        let (a, b, c, d) = (halves(0), halves(1), halves(2), halves(3));
        let ab = _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let cd = _mm512_add_epi64(_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
        let all = _mm512_permutex2var_epi32(ab, order, cd);
        // SAFETY: `sums` has 16 numbers.
        unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), all) };
    }
    box_sum::pixel_sums(rest, 16, last);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn hide(mut codes: __m512i) -> __m512i {
    // SAFETY: there is no instruction in it.
    unsafe {
        asm!("/* {0} */", inout(zmm_reg) codes, options(nomem, nostack, preserves_flags));
    }
    codes
}
