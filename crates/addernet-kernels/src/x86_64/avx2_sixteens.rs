//! What becomes of the sums of a tile in AVX2, 16 channels of a pixel at a time.
//!
//! Sums come in two registers, each with 4 channels in its lower half and the 4 that are 8 further in its upper half:
//! packed to 16 bits they are in order. Moving between the halves takes Zen 3 two operations each time.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    avx2_quantize::{HighQuantizer, Quantize, Quantizer},
    avx2_rescale::{Scale, times},
    avx2_u8::Sums,
};
use crate::uint8::{
    rescale::{CodeRange, CodeRows, MapCodes},
    simd::{Constants, unrolled},
};
use std::arch::x86_64::*;

/// Most pixels of a tile.
const MOST: usize = 16;

/// The constants of 16 channels, in the order of their sums.
///
/// # Safety
/// The constants must be valid for reads of 16 numbers each.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn scales(from: Constants) -> [Scale; 2] {
    // SAFETY: the caller promises 16 numbers each.
    unsafe {
        let halves = |from: *const i32, first: usize| {
            let from = from.add(first);
            _mm256_loadu2_m128i(from.add(8).cast(), from.cast())
        };
        [0, 4].map(|first| Scale {
            multiplier: halves(from.multiplier, first),
            offset: halves(from.offset, first),
            shift: halves(from.shift.cast(), first),
        })
    }
}

/// The scaled sums of a pixel as i16, saturated.
#[inline]
#[target_feature(enable = "avx2")]
fn scaled(sums: Sums, scales: [Scale; 2]) -> __m256i {
    let [a, b] = sums.all();
    _mm256_packs_epi32(scales[0].scale(a), scales[1].scale(b))
}

/// Writes the codes of two pixels: of each 8 in the lower halves of `codes` and 8 in the upper ones.
///
/// # Safety
/// Both pixels must be valid for writes of 16 codes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_two(first: *mut u8, second: *mut u8, codes: __m256i) {
    let (low, high) = (
        _mm256_castsi256_si128(codes),
        _mm256_extracti128_si256::<1>(codes),
    );
    // SAFETY: the caller promises 16 codes each.
    unsafe {
        _mm_storeu_si128(first.cast(), _mm_unpacklo_epi64(low, high));
        _mm_storeu_si128(second.cast(), _mm_unpackhi_epi64(low, high));
    }
}

/// The pixel behind `p` of `P`. An odd one out is its own partner, and written twice.
#[inline(always)]
fn partner<const P: usize>(p: usize) -> usize {
    (p + 1).min(P - 1)
}

/// min(q, max) · factor of the codes of each pair of pixels.
#[inline]
#[target_feature(enable = "avx2")]
fn encode_all(codes: &mut [__m256i; MOST], range: CodeRange) {
    let max = _mm256_set1_epi8(range.max as i8);
    unrolled!(p to MOST, 2, {
        codes[p] = _mm256_min_epu8(codes[p], max);
    });
    if range.factor != 1 {
        unrolled!(p to MOST, 2, {
            codes[p] = times(codes[p], range.factor);
        });
    }
}

/// Scales the sums of 16 channels of `P` pixels and writes their codes: those of pixel p from `to(p)` on.
///
/// # Safety
/// The CPU must have AVX2, the constants be valid for reads and each pixel's codes for writes of 16 numbers.
#[inline(always)]
pub(super) unsafe fn store_codes<const P: usize, const B: usize>(
    sums: &[[Sums; B]; P],
    constants: Constants,
    to: impl Fn(usize) -> *mut u8,
    range: CodeRange,
) {
    assert!(P <= MOST); // Known when compiled.
    // SAFETY: the caller promises AVX2, the constants and the codes.
    unsafe {
        let scales = scales(constants);
        let mut all = [_mm256_setzero_si256(); MOST];
        unrolled!(p to P, 2, {
            let next = partner::<P>(p);
            let values = scaled(sums[p][0], scales);
            all[p] = _mm256_packus_epi16(values, scaled(sums[next][0], scales));
        });
        // Before any is written: a question for each pair would keep registers in memory.
        encode_all(&mut all, range);
        unrolled!(p to P, 2, {
            store_two(to(p), to(partner::<P>(p)), all[p]);
        });
    }
}

/// Makes the sums of 16 channels of `P` pixels values of a map, and their codes: those of pixel p are at `at(p)` of
/// `map` and of the residual, and at `place(rows, p)` of each map of codes.
///
/// # Safety
/// The CPU must have AVX2, the constants and each pixel's residuals be valid for reads, its values and codes for
/// writes of 16 numbers.
#[expect(clippy::too_many_arguments, reason = "one operation on a tile")]
#[inline(always)]
pub(super) unsafe fn store_map<const P: usize, const B: usize>(
    sums: &[[Sums; B]; P],
    constants: Constants,
    map: *mut i16,
    at: impl Fn(usize) -> usize,
    residual: Option<*const i16>,
    low: i16,
    codes: &mut [MapCodes<'_>],
    place: impl Fn(&CodeRows<'_>, usize) -> usize,
) {
    assert!(P <= MOST); // Known when compiled.
    // SAFETY: the caller promises AVX2, constants, residuals, values and codes.
    unsafe {
        let scales = scales(constants);
        let low = _mm256_set1_epi16(low);
        let mut all = [_mm256_setzero_si256(); MOST];
        unrolled!(p to P, {
            let mut values = scaled(sums[p][0], scales);
            if let Some(residual) = residual {
                values = _mm256_adds_epi16(values, _mm256_loadu_si256(residual.add(at(p)).cast()));
            }
            values = _mm256_max_epi16(values, low);
            _mm256_storeu_si256(map.add(at(p)).cast(), values);
            all[p] = values;
        });
        for MapCodes { scale, rows } in codes.iter_mut() {
            match HighQuantizer::new(*scale) {
                Some(quantizer) => write_codes::<_, P>(quantizer, &all, rows, &place),
                None => write_codes::<_, P>(Quantizer::new(*scale), &all, rows, &place),
            }
        }
    }
}

/// Writes the codes of `P` pixels' values, those of pixel p from `place(rows, p)` on.
///
/// # Safety
/// The CPU must have AVX2, and each pixel's codes be valid for writes.
#[inline(always)]
unsafe fn write_codes<Q: Quantize, const P: usize>(
    quantizer: Q,
    values: &[__m256i; MOST],
    rows: &mut CodeRows<'_>,
    place: &impl Fn(&CodeRows<'_>, usize) -> usize,
) {
    // A copy, which the codes that are written cannot change.
    let rows = rows.starting_at(0);
    let to = rows.codes.as_mut_ptr();
    // SAFETY: the caller promises AVX2 and the codes.
    unsafe {
        let mut codes = [_mm256_setzero_si256(); MOST];
        unrolled!(p to P, 2, {
            let next = quantizer.scale(values[partner::<P>(p)]);
            codes[p] = _mm256_packus_epi16(quantizer.scale(values[p]), next);
        });
        encode_all(&mut codes, rows.range);
        unrolled!(p to P, 2, {
            let next = place(&rows, partner::<P>(p));
            store_two(to.add(place(&rows, p)), to.add(next), codes[p]);
        });
    }
}
