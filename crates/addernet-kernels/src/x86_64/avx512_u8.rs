//! AVX-512 on u8 codes: vectors of 64 bytes, 32 registers; with and without the dot products of
//! VNNI.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use crate::uint8::{
    box_sum, pixels,
    rescale::{CodeRange, CodeScale},
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
    unsafe fn start(self, _x_sum: *const i32) -> __m512i {
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
    unsafe fn start(self, x_sum: *const i32) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises a readable number.
        unsafe { _mm512_set1_epi32(*x_sum) }
    }

    #[inline(always)]
    unsafe fn add_bias(self, sums: __m512i, bias: &[i32]) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 16 numbers.
        unsafe { _mm512_add_epi32(sums, _mm512_loadu_si512(bias.as_ptr().cast())) }
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
    unsafe fn store_codes<const P: usize, const B: usize>(
        self,
        to: *mut u8,
        offset: impl Fn(usize) -> usize,
        sums: &[[__m512i; B]; P],
        constants: Constants,
        range: CodeRange,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants and codes.
        unsafe {
            let constants: [Scale; B] = Scale::load(constants);
            let to = |p: usize| to.add(offset(p));
            // As many pixels as make 64 codes.
            let together = 4 / B;
            for p in (0..P / together * together).step_by(together) {
                let z = |i: usize| constants[i % B].scale(sums[p + i / B][i % B]);
                let codes = encode(codes(z(0), z(1), z(2), z(3)), range);
                if B == 1 && to(p + 3) == to(p).add(48) {
                    _mm512_storeu_si512(to(p).cast(), codes);
                } else if B == 1 {
                    _mm_storeu_si128(to(p).cast(), _mm512_castsi512_si128(codes));
                    _mm_storeu_si128(to(p + 1).cast(), _mm512_extracti32x4_epi32::<1>(codes));
                    _mm_storeu_si128(to(p + 2).cast(), _mm512_extracti32x4_epi32::<2>(codes));
                    _mm_storeu_si128(to(p + 3).cast(), _mm512_extracti32x4_epi32::<3>(codes));
                } else {
                    _mm256_storeu_si256(to(p).cast(), _mm512_castsi512_si256(codes));
                    _mm256_storeu_si256(to(p + 1).cast(), _mm512_extracti64x4_epi64::<1>(codes));
                }
            }
            for p in P / together * together..P {
                for b in 0..B {
                    let z = constants[b].scale(sums[p][b]);
                    let codes = encode(codes(z, z, z, z), range);
                    _mm_storeu_si128(to(p).add(16 * b).cast(), _mm512_castsi512_si128(codes));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn store_map<const P: usize, const B: usize>(
        self,
        map: *mut i16,
        offset: impl Fn(usize) -> usize,
        sums: &[[__m512i; B]; P],
        constants: Constants,
        residual: Option<*const i16>,
        low: i16,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants, residuals and
        // values.
        unsafe {
            let constants: [Scale; B] = Scale::load(constants);
            // As many pixels as make 32 values.
            let together = 2 / B;
            for p in (0..P / together * together).step_by(together) {
                let z = |i: usize| constants[i % B].scale(sums[p + i / B][i % B]);
                let values = values(z(0), z(1));
                let at = offset(p);
                if B == 2 || offset(p + 1) == at + 16 {
                    let values = match residual {
                        Some(residual) => {
                            _mm512_adds_epi16(values, _mm512_loadu_si512(residual.add(at).cast()))
                        }
                        None => values,
                    };
                    let values = _mm512_max_epi16(values, _mm512_set1_epi16(low));
                    _mm512_storeu_si512(map.add(at).cast(), values);
                } else {
                    let halves = [
                        _mm512_castsi512_si256(values),
                        _mm512_extracti64x4_epi64::<1>(values),
                    ];
                    for (i, values) in halves.into_iter().enumerate() {
                        store_half(map, offset(p + i), values, residual, low);
                    }
                }
            }
            // Two blocks are always a pair.
            for p in P / together * together..P {
                let z = constants[0].scale(sums[p][0]);
                let values = _mm512_castsi512_si256(values(z, z));
                store_half(map, offset(p), values, residual, low);
            }
        }
    }

    #[inline(always)]
    unsafe fn quantize<const P: usize, const B: usize>(
        self,
        map: *const i16,
        offset: impl Fn(usize) -> usize,
        to: *mut u8,
        code_offset: impl Fn(usize) -> usize,
        scale: CodeScale,
        range: CodeRange,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises values and codes.
        unsafe {
            let quantizer = Quantizer::new(scale);
            for p in 0..P {
                let from: *const i16 = map.add(offset(p));
                let to = to.add(code_offset(p));
                if B == 2 {
                    let q = quantizer.scale(_mm512_loadu_si512(from.cast()));
                    let codes = encode(codes_of_values(q, q), range);
                    _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(codes));
                } else if p % 2 == 0 && p + 1 < P {
                    let first = _mm256_loadu_si256(from.cast());
                    let second = _mm256_loadu_si256(map.add(offset(p + 1)).cast());
                    let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
                    let q = quantizer.scale(both);
                    let codes = encode(codes_of_values(q, q), range);
                    let codes = _mm512_castsi512_si256(codes);
                    let next = to.sub(code_offset(p)).add(code_offset(p + 1));
                    _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(codes));
                    _mm_storeu_si128(next.cast(), _mm256_extracti128_si256::<1>(codes));
                } else if p % 2 == 0 {
                    let values = _mm512_castsi256_si512(_mm256_loadu_si256(from.cast()));
                    let q = quantizer.scale(values);
                    let codes = encode(codes_of_values(q, q), range);
                    _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(codes));
                }
            }
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

/// The constants of 16 channels.
#[derive(Clone, Copy)]
struct Scale {
    multiplier: __m512i,
    offset: __m512i,
    shift: __m512i,
}

impl Scale {
    /// Those of `B` neighbouring vectors of channels.
    ///
    /// # Safety
    /// The constants must be valid for reads of `16 B` numbers each.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load<const B: usize>(from: Constants) -> [Self; B] {
        let zero = _mm512_setzero_si512();
        let mut all = [Self {
            multiplier: zero,
            offset: zero,
            shift: zero,
        }; B];
        for (b, scale) in all.iter_mut().enumerate() {
            // SAFETY: the caller promises 16 numbers each.
            unsafe {
                scale.multiplier = _mm512_loadu_si512(from.multiplier.add(16 * b).cast());
                scale.offset = _mm512_loadu_si512(from.offset.add(16 * b).cast());
                scale.shift = _mm512_loadu_si512(from.shift.add(16 * b).cast());
            }
        }
        all
    }

    /// (s · multiplier + offset) >> shift in 16 lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn scale(self, sums: __m512i) -> __m512i {
        let product = _mm512_add_epi32(_mm512_mullo_epi32(sums, self.multiplier), self.offset);
        _mm512_srav_epi32(product, self.shift)
    }
}

/// 4 x 16 numbers as u8, saturated, one behind the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn codes(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    // Packing works within the quarters of a register.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let packed = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    _mm512_permutexvar_epi32(order, packed)
}

/// 2 x 32 values as u8, saturated, one behind the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn codes_of_values(a: __m512i, b: __m512i) -> __m512i {
    let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    _mm512_permutexvar_epi64(order, _mm512_packus_epi16(a, b))
}

/// min(q, max) · factor of 64 codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn encode(codes: __m512i, range: CodeRange) -> __m512i {
    let codes = _mm512_min_epu8(codes, _mm512_set1_epi8(range.max as i8));
    if range.factor == 1 {
        return codes;
    }
    // Products fit 8 bits: those of even codes are not disturbed by odd ones, and odd ones move down.
    let factor = _mm512_set1_epi16(range.factor.into());
    let low = _mm512_set1_epi16(0xff);
    let even = _mm512_mullo_epi16(_mm512_and_si512(codes, low), factor);
    let odd = _mm512_mullo_epi16(_mm512_srli_epi16::<8>(codes), factor);
    _mm512_or_si512(even, _mm512_slli_epi16::<8>(odd))
}

/// 2 x 16 numbers as i16, saturated, one behind the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn values(a: __m512i, b: __m512i) -> __m512i {
    let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b))
}

/// Adds 16 residuals to 16 values and writes them.
///
/// # Safety
/// From `at` on `residual` must be valid for reads and `map` for writes of 16 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn store_half(
    map: *mut i16,
    at: usize,
    values: __m256i,
    residual: Option<*const i16>,
    low: i16,
) {
    // SAFETY: the caller promises residuals and values.
    unsafe {
        let values = match residual {
            Some(residual) => {
                _mm256_adds_epi16(values, _mm256_loadu_si256(residual.add(at).cast()))
            }
            None => values,
        };
        let values = _mm256_max_epi16(values, _mm256_set1_epi16(low));
        _mm256_storeu_si256(map.add(at).cast(), values);
    }
}

/// A [`CodeScale`] in registers. A product and its rounding are one instruction, v · multiplier + c · half
/// on pairs of v and c; both factors of the rounding must fit 16 bits.
#[derive(Clone, Copy)]
struct Quantizer {
    /// c
    rounding: __m512i,
    /// Pairs of the multiplier and half/c.
    factors: __m512i,
    shift: __m128i,
    zero: __m512i,
}

impl Quantizer {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(scale: CodeScale) -> Self {
        let half = scale.shift() - 1;
        let (first, second) = (half.min(14), half.saturating_sub(14));
        let multiplier = i32::from(scale.multiplier() as u16);
        Self {
            rounding: _mm512_set1_epi16(1 << first),
            factors: _mm512_set1_epi32(multiplier | 1 << (16 + second)),
            shift: _mm_cvtsi32_si128(scale.shift() as i32),
            zero: _mm512_set1_epi16(scale.zero()),
        }
    }

    /// q of 32 values, saturated to i16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn scale(self, values: __m512i) -> __m512i {
        let product = |pairs| _mm512_sra_epi32(_mm512_madd_epi16(pairs, self.factors), self.shift);
        let low = product(_mm512_unpacklo_epi16(values, self.rounding));
        let high = product(_mm512_unpackhi_epi16(values, self.rounding));
        _mm512_adds_epi16(_mm512_packs_epi32(low, high), self.zero)
    }
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

/// Minus the sums of pixels of 16 channels, 16 pixels at a time.
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
        let all = _mm512_sub_epi32(_mm512_setzero_si512(), all);
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
