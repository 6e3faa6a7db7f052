//! What becomes of a tile's sums in AVX-512, 16 channels of a pixel at a time.
#![allow(unsafe_code)]

use super::avx512_u8::hide;
use crate::uint8::{
    rescale::{CodeRange, CodeRows, CodeScale, MapCodes},
    simd::{Constants, unrolled},
};
use std::arch::x86_64::*;

/// [`SimdU8::store_codes`](crate::uint8::simd::SimdU8::store_codes) of sums of 32 bits, 16 in a vector.
///
/// # Safety
/// As there; the CPU must have AVX-512F and AVX-512BW.
#[inline(always)]
pub(super) unsafe fn store_codes<const P: usize, const B: usize>(
    to: *mut u8,
    offset: impl Fn(usize) -> usize,
    sums: &[[__m512i; B]; P],
    constants: Constants,
    range: CodeRange,
) {
    // SAFETY: the caller promises the instructions, constants and codes.
    unsafe {
        let constants: [Scale; B] = Scale::load(constants);
        let to = |p: usize| to.add(offset(p));
        // As many pixels as make 64 codes; what is missing is made of the last one.
        unrolled!(p to P, 4 / B, {
            let z = |i: usize| constants[i % B].scale(sums[(p + i / B).min(P - 1)][i % B]);
            let codes = encode(codes(z(0), z(1), z(2), z(3)), range);
            store_64::<B>(P - p, |i| to(p + i), codes);
        });
    }
}

/// [`SimdU8::store_map`](crate::uint8::simd::SimdU8::store_map) of sums of 32 bits, 16 in a vector.
///
/// # Safety
/// As there; the CPU must have AVX-512F and AVX-512BW.
#[expect(clippy::too_many_arguments, reason = "one operation on a tile")]
#[inline(always)]
pub(super) unsafe fn store_map<const P: usize, const B: usize>(
    map: *mut i16,
    offset: impl Fn(usize) -> usize,
    sums: &[[__m512i; B]; P],
    constants: Constants,
    residual: Option<*const i16>,
    low: i16,
    codes: &mut [MapCodes<'_>],
    place: impl Fn(&CodeRows<'_>, usize) -> usize,
) {
    // SAFETY: the caller promises the instructions, constants, residuals, values and codes.
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
unsafe fn store_64<const B: usize>(count: usize, to: impl Fn(usize) -> *mut u8, codes: __m512i) {
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

/// A [`CodeScale`] in registers, see [`CodeScale::pairs`].
#[derive(Clone, Copy)]
struct Quantizer {
    rounding: __m512i,
    factors: __m512i,
    shift: __m128i,
    zero: __m512i,
}

impl Quantizer {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(scale: CodeScale) -> Self {
        let pairs = scale.pairs();
        Self {
            rounding: _mm512_set1_epi16(pairs.rounding),
            factors: _mm512_set1_epi32(pairs.factors),
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

/// The same for shifts that [`CodeScale::high`] can do.
#[derive(Clone, Copy)]
struct HighQuantizer {
    multiplier: __m512i,
    offset: __m512i,
    shift: __m128i,
}

impl HighQuantizer {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(scale: CodeScale) -> Option<Self> {
        let high = scale.high()?;
        Some(Self {
            multiplier: hide(_mm512_set1_epi16(scale.multiplier())),
            offset: _mm512_set1_epi16(high.offset),
            shift: _mm_cvtsi32_si128(high.shift as i32),
        })
    }
}

impl Quantize for HighQuantizer {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn scale(self, values: __m512i) -> __m512i {
        // Hidden, or the compiler widens the values outside the loop over codes and narrows them
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
            store_64::<B>(P - p, |i| to(p + i), codes);
        }
    });
}
