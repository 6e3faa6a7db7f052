//! AVX-512 on u8 codes: vectors of 64 bytes, 32 registers; with and without the dot products of
//! VNNI.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::avx2_u8::dot_pair;
use super::vbmi::{self, Vbmi};
use crate::uint8::{
    box_sum, maps,
    rescale::{CodeRange, CodeRows, CodeScale, MapCodes},
    simd::{Constants, DotWindow, SimdU8, Task, portable_codes, portable_map, unrolled},
    triples::{Sums, Tile, Wide},
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
    type Factors = ();

    const NAME: &'static str = "avx512";
    const LANES: usize = 8;
    const GROUP: usize = 8;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 8;
    const PIXELS_1: usize = 8;
    const SLIDE: bool = true;
    const DOT_PAIR: bool = true;

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
    fn factors(self) {}

    #[inline(always)]
    fn accumulate(self, sums: __m512i, x: __m512i, w: __m512i, (): ()) -> __m512i {
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe { _mm512_add_epi64(sums, _mm512_sad_epu8(x, w)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: __m512i) {
        // SAFETY: the token proves AVX-512F; the caller promises 8 writable numbers.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi64_epi32(sums)) }
    }

    #[inline(always)]
    unsafe fn dot_pair(self, x: [*const u8; 2], window: DotWindow, w: *const i8) -> [[i32; 16]; 2] {
        // SAFETY: the token proves AVX-512F and with it AVX2; the caller promises the windows and the weights.
        unsafe { dot_pair(x, window, w) }
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
            match low_halves(sums) {
                Some(sums) => store_codes_of_sums(to, offset, &sums, constants, range),
                None => portable_codes(self, to, offset, sums, constants, range),
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
        codes: &mut [MapCodes<'_>],
        place: impl Fn(&CodeRows<'_>, usize) -> usize,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants, residuals, values
        // and codes.
        unsafe {
            match low_halves(sums) {
                Some(sums) => {
                    store_map_of_sums(map, offset, &sums, constants, residual, low, codes, place)
                }
                None => portable_map(
                    self, map, offset, sums, constants, residual, low, codes, place,
                ),
            }
        }
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
pub(crate) struct Avx512Vnni {
    /// Exists only if the CPU has AVX-512 VBMI, as all but the first with VNNI have.
    vbmi: Option<Vbmi>,
}

impl Avx512Vnni {
    pub(crate) fn detect() -> Option<Self> {
        (Avx512U8::detect().is_some() && is_x86_feature_detected!("avx512vnni")).then(|| Self {
            vbmi: Vbmi::detect(),
        })
    }
}

/// `vpdpbusd` adds up twice the maxima of 4 neighbouring codes.
impl SimdU8 for Avx512Vnni {
    type Codes = __m512i;
    /// 32-bit lanes.
    type Sums = __m512i;
    /// Twos.
    type Factors = __m512i;

    const NAME: &'static str = "avx512-vnni";
    const LANES: usize = 16;
    const GROUP: usize = 4;
    const MAX_IDENTITY: bool = true;
    const PIXELS_2: usize = 8;
    const PIXELS_1: usize = 16;
    const SLIDE: bool = true;
    const WINDOW_SUMS: bool = true;
    const DOT: bool = true;

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
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe {
            match channels {
                16 => pixel_sums::<16>(x, sums),
                32 => pixel_sums::<32>(x, sums),
                64 => pixel_sums::<64>(x, sums),
                _ => box_sum::pixel_sums(x, channels, sums),
            }
        }
    }

    #[inline(always)]
    fn window_sums(
        self,
        x: &[u8],
        channels: usize,
        row_len: usize,
        sums: &mut [i32],
        pitch: usize,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe {
            match channels {
                16 => window_sums::<16, 2>(x, row_len, sums, pitch),
                _ => window_sums::<32, 1>(x, row_len, sums, pitch),
            }
        }
    }

    #[inline(always)]
    fn three_to_four(self, from: &[[u8; 3]], to: &mut [[u8; 4]]) {
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe { three_to_four(from, to) }
    }

    #[inline(always)]
    fn factors(self) -> __m512i {
        // SAFETY: the token proves AVX-512F.
        unsafe { hide(_mm512_set1_epi8(2)) }
    }

    #[inline(always)]
    fn accumulate(self, sums: __m512i, x: __m512i, w: __m512i, twos: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512F, AVX-512BW and VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_max_epu8(x, w), twos) }
    }

    #[inline(always)]
    unsafe fn dot(self, sums: __m512i, x: *const u8, w: *const i8) -> __m512i {
        // SAFETY: the token proves AVX-512F and VNNI; the caller promises 4 and 64 readable bytes.
        unsafe {
            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            _mm512_dpbusd_epi32(sums, x, _mm512_loadu_si512(w.cast()))
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
        unsafe { store_codes_of_sums(to, offset, sums, constants, range) }
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
        codes: &mut [MapCodes<'_>],
        place: impl Fn(&CodeRows<'_>, usize) -> usize,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants, residuals, values
        // and codes.
        unsafe {
            store_map_of_sums(map, offset, sums, constants, residual, low, codes, place);
        }
    }

    #[inline(always)]
    fn looks_up(self) -> bool {
        self.vbmi.is_some()
    }

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const u8,
        distance: usize,
        to: *mut u8,
        pitch: usize,
        size: [usize; 2],
    ) {
        if let Some(vbmi) = self.vbmi {
            // SAFETY: the caller promises the same.
            unsafe { vbmi.transpose(from, distance, to, pitch, size) }
        }
    }

    #[inline(always)]
    unsafe fn join(self, from: *const u8, distance: usize, len: usize, to: *mut u8) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises codes and room.
        unsafe { vbmi::join(from, distance, len, to) }
    }

    #[inline(always)]
    unsafe fn look_up(self, tile: Tile<'_>, vectors: usize, wide: &mut Wide<__m512i>) {
        if let Some(vbmi) = self.vbmi {
            // SAFETY: the caller promises the same.
            unsafe { vbmi.look_up(tile, vectors, wide) }
        }
    }

    #[inline(always)]
    unsafe fn in_order(self, wide: &Wide<__m512i>, vector: usize, sums: &mut Sums<__m512i>) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises the vector's sums.
        unsafe { vbmi::in_order(wide, vector, sums) }
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

/// Of two vectors of sums of 64 bits one of 32; of single vectors none.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn low_halves<const P: usize, const B: usize>(
    sums: &[[__m512i; B]; P],
) -> Option<[[__m512i; 1]; P]> {
    if B != 2 {
        return None;
    }
    // SAFETY: the caller promises AVX-512F.
    unsafe {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let mut all = [[even]; P];
        for p in 0..P {
            all[p] = [_mm512_permutex2var_epi32(sums[p][0], even, sums[p][B - 1])];
        }
        Some(all)
    }
}

/// [`SimdU8::store_codes`] of sums of 32 bits, 16 in a vector.
///
/// # Safety
/// As there; the CPU must have AVX-512F and AVX-512BW.
#[inline(always)]
unsafe fn store_codes_of_sums<const P: usize, const B: usize>(
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
        // As many pixels as make 64 codes; what is missing is made of the last one.
        unrolled!(p to P, 4 / B, {
            let z = |i: usize| constants[i % B].scale(sums[(p + i / B).min(P - 1)][i % B]);
            let codes = encode(codes(z(0), z(1), z(2), z(3)), range);
            store_codes::<B>(P - p, |i| to(p + i), codes);
        });
    }
}

/// [`SimdU8::store_map`] of sums of 32 bits, 16 in a vector.
///
/// # Safety
/// As there; the CPU must have AVX-512F and AVX-512BW.
#[expect(clippy::too_many_arguments, reason = "one operation on a tile")]
#[inline(always)]
unsafe fn store_map_of_sums<const P: usize, const B: usize>(
    map: *mut i16,
    offset: impl Fn(usize) -> usize,
    sums: &[[__m512i; B]; P],
    constants: Constants,
    residual: Option<*const i16>,
    low: i16,
    codes: &mut [MapCodes<'_>],
    place: impl Fn(&CodeRows<'_>, usize) -> usize,
) {
    // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants, residuals, values
    // and codes.
    unsafe {
        let constants: [Scale; B] = Scale::load(constants);
        let low = _mm512_set1_epi16(low);
        // 32 values from pixel p on: its own, or with those of the next one.
        let mut all = [_mm512_setzero_si512(); 8];
        let together = 2 / B;
        unrolled!(p to P, together, {
            let one = p + 1 == P && B == 1;
            let first = constants[0].scale(sums[p][0]);
            let second = match (B, one) {
                (2, _) => constants[B - 1].scale(sums[p][B - 1]),
                (_, true) => first,
                _ => constants[0].scale(sums[(p + 1).min(P - 1)][0]),
            };
            let mut values = values(first, second);
            let at = offset(p);
            if !one && (B == 2 || offset(p + 1) == at + 16) {
                if let Some(residual) = residual {
                    let residual = _mm512_loadu_si512(residual.add(at).cast());
                    values = _mm512_adds_epi16(values, residual);
                }
                values = _mm512_max_epi16(values, low);
                _mm512_storeu_si512(map.add(at).cast(), values);
            } else {
                let next = if one { at } else { offset(p + 1) };
                if let Some(residual) = residual {
                    let first = _mm256_loadu_si256(residual.add(at).cast());
                    let second = _mm256_loadu_si256(residual.add(next).cast());
                    let residual =
                        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
                    values = _mm512_adds_epi16(values, residual);
                }
                values = _mm512_max_epi16(values, low);
                // A single pixel's values are in both halves.
                let second = _mm512_extracti64x4_epi64::<1>(values);
                _mm256_storeu_si256(map.add(at).cast(), _mm512_castsi512_si256(values));
                _mm256_storeu_si256(map.add(next).cast(), second);
            }
            all[p / together] = values;
        });
        for MapCodes { scale, rows } in codes.iter_mut() {
            match HighQuantizer::new(*scale) {
                Some(quantizer) => write_codes::<_, P, B>(quantizer, &all, rows, &place),
                None => write_codes::<_, P, B>(Quantizer::new(*scale), &all, rows, &place),
            }
        }
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

/// Writes 64 codes, or those of the first `count` pixels: four of one block of channels, or two of two.
///
/// # Safety
/// Each pixel's codes must be valid for writes.
#[inline(always)]
unsafe fn store_codes<const B: usize>(count: usize, to: impl Fn(usize) -> *mut u8, codes: __m512i) {
    // SAFETY: only code that has AVX-512F calls it, and promises the codes.
    unsafe {
        if B == 2 {
            _mm256_storeu_si256(to(0).cast(), _mm512_castsi512_si256(codes));
            if count > 1 {
                _mm256_storeu_si256(to(1).cast(), _mm512_extracti64x4_epi64::<1>(codes));
            }
            return;
        }
        if count > 3 && to(3) == to(0).add(48) {
            _mm512_storeu_si512(to(0).cast(), codes);
            return;
        }
        _mm_storeu_si128(to(0).cast(), _mm512_castsi512_si128(codes));
        if count > 1 {
            _mm_storeu_si128(to(1).cast(), _mm512_extracti32x4_epi32::<1>(codes));
        }
        if count > 2 {
            _mm_storeu_si128(to(2).cast(), _mm512_extracti32x4_epi32::<2>(codes));
        }
        if count > 3 {
            _mm_storeu_si128(to(3).cast(), _mm512_extracti32x4_epi32::<3>(codes));
        }
    }
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

/// Scales the values of a map.
trait Quantize: Copy {
    /// q of 32 values, saturated to i16.
    ///
    /// # Safety
    /// The CPU must have AVX-512F and AVX-512BW.
    unsafe fn scale(self, values: __m512i) -> __m512i;
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
}

impl Quantize for Quantizer {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn scale(self, values: __m512i) -> __m512i {
        let product = |pairs| _mm512_sra_epi32(_mm512_madd_epi16(pairs, self.factors), self.shift);
        let low = product(_mm512_unpacklo_epi16(values, self.rounding));
        let high = product(_mm512_unpackhi_epi16(values, self.rounding));
        _mm512_adds_epi16(_mm512_packs_epi32(low, high), self.zero)
    }
}

/// The same for shifts of at least 17. Half of such a divisor is a multiple of 2^16: the low half of a product
/// never carries, and its high half, to which the rounding is added, is enough.
#[derive(Clone, Copy)]
struct HighQuantizer {
    multiplier: __m512i,
    /// Half of the divisor and zero times the divisor, as high halves.
    offset: __m512i,
    shift: __m128i,
}

impl HighQuantizer {
    /// None if the shift is less, or zero so far away that 16 bits do not hold the offset beside a product.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(scale: CodeScale) -> Option<Self> {
        let half = scale.shift().checked_sub(17)?;
        let offset = (1 << half) + (i32::from(scale.zero()) << (half + 1));
        if offset.abs() >= 1 << 14 {
            return None;
        }
        Some(Self {
            multiplier: hide(_mm512_set1_epi16(scale.multiplier())),
            offset: _mm512_set1_epi16(offset as i16),
            shift: _mm_cvtsi32_si128(half as i32 + 1),
        })
    }
}

impl Quantize for HighQuantizer {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn scale(self, values: __m512i) -> __m512i {
        // At most 2^14. Hidden, or the compiler widens the values outside the loop over codes and narrows them
        // again here.
        let product = _mm512_mulhi_epi16(hide(values), self.multiplier);
        _mm512_sra_epi16(_mm512_add_epi16(product, self.offset), self.shift)
    }
}

/// Writes the codes of a tile's values, 32 in each vector, those of pixel p from `place(rows, p)` on.
///
/// # Safety
/// The CPU must have AVX-512F and AVX-512BW, and each pixel's codes be valid for writes.
#[inline(always)]
unsafe fn write_codes<Q: Quantize, const P: usize, const B: usize>(
    quantizer: Q,
    values: &[__m512i; 8],
    rows: &mut CodeRows<'_>,
    place: &impl Fn(&CodeRows<'_>, usize) -> usize,
) {
    let codes = rows.codes.as_mut_ptr();
    let to = |p: usize| codes.wrapping_add(place(rows, p));
    // As many pixels as make 64 codes.
    unrolled!(p to P, 4 / B, {
        // SAFETY: the caller promises the instructions and the codes.
        unsafe {
            let first = quantizer.scale(values[p * B / 2]);
            let second = quantizer.scale(values[(p * B / 2 + 1) % 8]);
            let codes = encode(codes_of_values(first, second), rows.range);
            store_codes::<B>(P - p, |i| to(p + i), codes);
        }
    });
}

/// Appends a zero to each pixel, 16 pixels at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn three_to_four(from: &[[u8; 3]], to: &mut [[u8; 4]]) {
    // The 12 bytes of four pixels into each quarter; then a byte from behind them, which is 0, after every third.
    let quarters = _mm512_setr_epi32(0, 1, 2, 12, 3, 4, 5, 12, 6, 7, 8, 12, 9, 10, 11, 12);
    let bytes = _mm_setr_epi8(0, 1, 2, 12, 3, 4, 5, 12, 6, 7, 8, 12, 9, 10, 11, 12);
    let bytes = _mm512_broadcast_i32x4(bytes);
    let spread = |pixels| _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, pixels), bytes);
    let ((from, last), (to, last_to)) = (from.as_chunks::<16>(), to.as_chunks_mut::<16>());
    for (from, to) in from.iter().zip(to) {
        // SAFETY: the mask leaves out what is beyond the 16 pixels.
        unsafe {
            let pixels = _mm512_maskz_loadu_epi8(u64::MAX >> 16, from.as_ptr().cast());
            _mm512_storeu_si512(to.as_mut_ptr().cast(), spread(pixels));
        }
    }
    maps::three_to_four(last, last_to);
}

/// Minus the sums of pixels of 16, 32 or 64 channels, 16 pixels at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pixel_sums<const CHANNELS: usize>(x: &[u8], sums: &mut [i32]) {
    let (all, last) = sums.as_chunks_mut::<16>();
    let mut pixels = x.chunks_exact(16 * CHANNELS);
    for (x, sums) in pixels.by_ref().zip(all) {
        let all = _mm512_sub_epi32(_mm512_setzero_si512(), sums_of_16::<CHANNELS>(x));
        // SAFETY: `sums` has 16 numbers.
        unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), all) };
    }
    box_sum::pixel_sums(pixels.remainder(), CHANNELS, last);
}

/// The sums of 16 pixels of 16, 32 or 64 channels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sums_of_16<const CHANNELS: usize>(x: &[u8]) -> __m512i {
    assert!(x.len() >= 16 * CHANNELS);
    // Quarters of registers are 16 codes: those of two registers side by side.
    let quarters = |pair: usize| {
        let [a, b] = [0, 1].map(|i| {
            // SAFETY: 16 pixels are a quarter of `CHANNELS` registers.
            let codes = unsafe { _mm512_loadu_si512(x.as_ptr().add((2 * pair + i) * 64).cast()) };
            _mm512_sad_epu8(codes, _mm512_setzero_si512())
        });
        _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
    };
    let halves = |pair: usize| neighbours(quarters(2 * pair), quarters(2 * pair + 1));
    match CHANNELS {
        16 => {
            let order =
                _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 16, 20, 24, 28, 18, 22, 26, 30);
            _mm512_permutex2var_epi32(quarters(0), order, quarters(1))
        }
        32 => {
            let order =
                _mm512_setr_epi32(0, 4, 2, 6, 8, 12, 10, 14, 16, 20, 18, 22, 24, 28, 26, 30);
            _mm512_permutex2var_epi32(halves(0), order, halves(1))
        }
        _ => {
            let order =
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let (a, b) = (
                neighbours(halves(0), halves(1)),
                neighbours(halves(2), halves(3)),
            );
            _mm512_permutex2var_epi32(a, order, b)
        }
    }
}

/// The sums of the first two quarters and of the last two, of `a` and then of `b`.
#[inline]
#[target_feature(enable = "avx512f")]
fn neighbours(a: __m512i, b: __m512i) -> __m512i {
    let even = _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b);
    _mm512_add_epi64(even, _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b))
}

/// The sums of the pixels in one register, 4 of 16 channels or 2 of 32, in the first lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sums_of_last<const CHANNELS: usize>(x: &[u8]) -> __m512i {
    assert!(x.len() >= 64);
    // SAFETY: there are 64 bytes.
    let codes = unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
    let halves = _mm512_sad_epu8(codes, _mm512_setzero_si512());
    let quarters = _mm512_add_epi64(halves, _mm512_bsrli_epi128::<8>(halves));
    if CHANNELS == 16 {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
        return _mm512_permutexvar_epi32(order, quarters);
    }
    let order = _mm512_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
    _mm512_permutexvar_epi32(order, neighbours(quarters, quarters))
}

/// [`SimdU8::window_sums`]: `V` vectors of windows of a row at a time. Sums of rows stay in registers until those of the next two are
/// there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn window_sums<const CHANNELS: usize, const V: usize>(
    x: &[u8],
    row_len: usize,
    sums: &mut [i32],
    pitch: usize,
) {
    for first in (0..pitch).step_by(16 * V) {
        let pixels = |row: usize| {
            let x = &x[row * row_len + first * CHANNELS..][..box_sum::READ];
            let mut all = [sums_of_last::<CHANNELS>(&x[16 * V * CHANNELS..]); 3];
            for v in 0..V {
                all[v] = sums_of_16::<CHANNELS>(&x[16 * v * CHANNELS..]);
            }
            all
        };
        let (mut top, mut middle) = (pixels(0), pixels(1));
        for (row, sums) in sums.chunks_exact_mut(pitch).enumerate() {
            let bottom = pixels(row + 2);
            let mut columns = top;
            for v in 0..V + 1 {
                columns[v] = _mm512_add_epi32(_mm512_add_epi32(top[v], middle[v]), bottom[v]);
            }
            let to = &mut sums[first..][..16 * V];
            for v in 0..V {
                let (a, b) = (columns[v], columns[v + 1]);
                let all = _mm512_sub_epi32(_mm512_setzero_si512(), a);
                let all = _mm512_sub_epi32(all, _mm512_alignr_epi32::<1>(b, a));
                let all = _mm512_sub_epi32(all, _mm512_alignr_epi32::<2>(b, a));
                // SAFETY: there is room for 16 numbers of each vector.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(16 * v).cast(), all) };
            }
            (top, middle) = (middle, bottom);
        }
    }
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
