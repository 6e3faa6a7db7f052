//! What becomes of a tile's sums in AVX2, 8 channels of a pixel at a time: an octet.
#![allow(unsafe_code)]

use super::avx2_quantize::{HighQuantizer, Quantize, Quantizer};
use crate::uint8::{
    rescale::{CodeRange, CodeRows, MapCodes},
    simd::Constants,
};
use std::arch::x86_64::*;

/// Most octets of a tile.
const MOST: usize = 16;

/// A loop over pairs of octets, written out: the compiler gives up on unrolling bodies as long as these, and
/// then keeps the registers in memory.
macro_rules! pairs {
    ($first:ident, $second:ident of $count:expr, $body:block) => {
        pairs!(@each $first $second ($count) $body 0 2 4 6 8 10 12 14)
    };
    (@each $first:ident $second:ident ($count:expr) $body:block $($at:literal)*) => {
        $(
            let $first: usize = $at;
            if $first < $count {
                // An odd one out is its own partner, and written twice.
                let $second = ($first + 1).min($count - 1);
                $body
            }
        )*
    };
}

/// The constants of 8 channels.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) multiplier: __m256i,
    pub(super) offset: __m256i,
    pub(super) shift: __m256i,
}

impl Scale {
    /// # Safety
    /// The constants must be valid for reads of 8 numbers each.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn load(from: Constants) -> Self {
        // SAFETY: the caller promises 8 numbers each.
        unsafe {
            Self {
                multiplier: _mm256_loadu_si256(from.multiplier.cast()),
                offset: _mm256_loadu_si256(from.offset.cast()),
                shift: _mm256_loadu_si256(from.shift.cast()),
            }
        }
    }

    /// Those of `B` neighbouring octets.
    ///
    /// # Safety
    /// The constants must be valid for reads of `8 B` numbers each.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn load_all<const B: usize>(from: Constants) -> [Self; B] {
        // SAFETY: the caller promises the first 8 numbers of each.
        let mut all = [unsafe { Self::load(from) }; B];
        for (b, scale) in all.iter_mut().enumerate().skip(1) {
            let from = Constants {
                multiplier: from.multiplier.wrapping_add(8 * b),
                offset: from.offset.wrapping_add(8 * b),
                shift: from.shift.wrapping_add(8 * b),
            };
            // SAFETY: and all others.
            *scale = unsafe { Self::load(from) };
        }
        all
    }

    /// (s · multiplier + offset) >> shift in 8 lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn scale(self, sums: __m256i) -> __m256i {
        let product = _mm256_add_epi32(_mm256_mullo_epi32(sums, self.multiplier), self.offset);
        _mm256_srav_epi32(product, self.shift)
    }
}

/// Packing works within the halves of a register: this puts its middle quarters in order.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(packed: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(packed)
}

/// 16 values as u8, saturated.
#[inline]
#[target_feature(enable = "avx2")]
fn codes_of_values(values: __m256i) -> __m128i {
    let low = _mm256_castsi256_si128(values);
    _mm_packus_epi16(low, _mm256_extracti128_si256::<1>(values))
}

/// Two octets as i16, saturated, one behind the other.
#[inline]
#[target_feature(enable = "avx2")]
fn values(a: __m256i, b: __m256i) -> __m256i {
    in_order(_mm256_packs_epi32(a, b))
}

/// min(q, max) · factor of 16 codes.
#[inline]
#[target_feature(enable = "avx2")]
fn encode(codes: __m128i, range: CodeRange) -> __m128i {
    let codes = _mm_min_epu8(codes, _mm_set1_epi8(range.max as i8));
    if range.factor == 1 {
        return codes;
    }
    _mm256_castsi256_si128(times(_mm256_castsi128_si256(codes), range.factor))
}

/// Codes times a factor, where products fit 8 bits: those of even codes are not disturbed by odd ones, and odd ones
/// move down.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn times(codes: __m256i, factor: u8) -> __m256i {
    let factor = _mm256_set1_epi16(factor.into());
    let even = _mm256_mullo_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xff)), factor);
    let odd = _mm256_mullo_epi16(_mm256_srli_epi16::<8>(codes), factor);
    _mm256_or_si256(even, _mm256_slli_epi16::<8>(odd))
}

/// Writes the codes of two octets.
///
/// # Safety
/// Both must be valid for writes of 8 codes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_pair(first: *mut u8, second: *mut u8, codes: __m128i) {
    // SAFETY: the caller promises 8 codes each.
    unsafe {
        _mm_storel_epi64(first.cast(), codes);
        _mm_storel_epi64(second.cast(), _mm_unpackhi_epi64(codes, codes));
    }
}

/// Writes the codes of `count` octets of scaled sums, at most [`MOST`]: those of octet i from `to(i)` on.
///
/// # Safety
/// The CPU must have AVX2, and each octet's codes be valid for writes.
#[inline(always)]
pub(super) unsafe fn store_codes(
    count: usize,
    z: impl Fn(usize) -> __m256i,
    to: impl Fn(usize) -> *mut u8,
    range: CodeRange,
) {
    assert!(count <= MOST); // Known when compiled.
    // SAFETY: the caller promises AVX2 and the codes.
    unsafe {
        pairs!(i, next of count, {
            let codes = encode(codes_of_values(values(z(i), z(next))), range);
            store_pair(to(i), to(next), codes);
        });
    }
}

/// Makes `count` octets of scaled sums, at most [`MOST`], values of a map, and their codes: those of octet i are
/// at `at(i)` of `map` and of the residual, and at `place(rows, i)` of each map of codes.
///
/// # Safety
/// The CPU must have AVX2, each octet's residuals be valid for reads, its values and codes for writes.
#[expect(clippy::too_many_arguments, reason = "one operation on a tile")]
#[inline(always)]
pub(super) unsafe fn store_map(
    count: usize,
    z: impl Fn(usize) -> __m256i,
    map: *mut i16,
    at: impl Fn(usize) -> usize,
    residual: Option<*const i16>,
    low: i16,
    codes: &mut [MapCodes<'_>],
    place: impl Fn(&CodeRows<'_>, usize) -> usize,
) {
    assert!(count <= MOST); // Known when compiled.
    // SAFETY: the caller promises AVX2, residuals, values and codes.
    unsafe {
        let low = _mm256_set1_epi16(low);
        let mut all = [_mm256_setzero_si256(); MOST / 2];
        pairs!(i, next of count, {
            let (first, second) = (at(i), at(next));
            let mut values = values(z(i), z(next));
            if let Some(residual) = residual {
                let residual = _mm256_loadu2_m128i(
                    residual.add(second).cast(),
                    residual.add(first).cast(),
                );
                values = _mm256_adds_epi16(values, residual);
            }
            values = _mm256_max_epi16(values, low);
            _mm_storeu_si128(map.add(first).cast(), _mm256_castsi256_si128(values));
            _mm_storeu_si128(map.add(second).cast(), _mm256_extracti128_si256::<1>(values));
            all[i / 2] = values;
        });
        for MapCodes { scale, rows } in codes.iter_mut() {
            match HighQuantizer::new(*scale) {
                Some(quantizer) => write_codes(count, quantizer, &all, rows, &place),
                None => write_codes(count, Quantizer::new(*scale), &all, rows, &place),
            }
        }
    }
}

/// Writes the codes of `count` octets of values, two in each vector: those of octet i from `place(rows, i)` on.
///
/// # Safety
/// The CPU must have AVX2, and each octet's codes be valid for writes.
#[inline(always)]
unsafe fn write_codes<Q: Quantize>(
    count: usize,
    quantizer: Q,
    values: &[__m256i; MOST / 2],
    rows: &mut CodeRows<'_>,
    place: &impl Fn(&CodeRows<'_>, usize) -> usize,
) {
    let to = rows.codes.as_mut_ptr();
    // SAFETY: the caller promises AVX2 and the codes.
    unsafe {
        pairs!(i, next of count, {
            let codes = encode(codes_of_values(quantizer.scale(values[i / 2])), rows.range);
            store_pair(to.add(place(rows, i)), to.add(place(rows, next)), codes);
        });
    }
}
