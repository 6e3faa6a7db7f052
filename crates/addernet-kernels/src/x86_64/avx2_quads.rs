//! What becomes of the sums of a tile of one vector in AVX2: 4 channels of each pixel, 4 pixels at a time.
//!
//! Values are kept by halves, the first two channels of all 4 pixels in one half of a register and the other two in
//! the other, which is how the sums' lanes of 64 bits come: moving between the halves takes Zen 3 two operations each
//! time.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::avx2_rescale::{Quantizer, Scale, codes_of_values, encode};
use crate::uint8::{
    rescale::{CodeRange, CodeRows, MapCodes},
    simd::{Constants, unrolled},
};
use std::arch::x86_64::*;

/// Pixels at a time.
const QUAD: usize = 4;

/// Most pixels of a tile.
const MOST: usize = 16;

/// The constants of 4 channels, by halves.
///
/// # Safety
/// The constants must be valid for reads of 4 numbers each.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn scale(from: Constants) -> Scale {
    // SAFETY: the caller promises 4 numbers each.
    unsafe {
        // The first two in the low half, twice, and the other two in the high half.
        let halves = |from: *const i32| {
            let all = _mm_loadu_si128(from.cast());
            let twice = [_mm_unpacklo_epi64(all, all), _mm_unpackhi_epi64(all, all)];
            _mm256_set_m128i(twice[1], twice[0])
        };
        Scale {
            multiplier: halves(from.multiplier),
            offset: halves(from.offset),
            shift: halves(from.shift.cast()),
        }
    }
}

/// The 4 pixels from `first` on. A tile's last one stands for those behind it, and is written again.
#[inline(always)]
fn pixels<const P: usize>(first: usize) -> [usize; QUAD] {
    let last = P - 1;
    [
        first,
        (first + 1).min(last),
        (first + 2).min(last),
        (first + 3).min(last),
    ]
}

/// The scaled sums of 4 pixels as i16, saturated, by halves.
#[inline]
#[target_feature(enable = "avx2")]
fn scaled<const P: usize, const B: usize>(
    sums: &[[__m256i; B]; P],
    [a, b, c, d]: [usize; QUAD],
    scale: Scale,
) -> __m256i {
    let two = |a: __m256i, b: __m256i| {
        let (a, b) = (_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
        scale.scale(_mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(
            a, b,
        )))
    };
    _mm256_packs_epi32(two(sums[a][0], sums[b][0]), two(sums[c][0], sums[d][0]))
}

/// 16 codes by halves, pixel by pixel.
#[inline]
#[target_feature(enable = "avx2")]
fn by_pixels(codes: __m128i) -> __m128i {
    let order = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    _mm_shuffle_epi8(codes, order)
}

/// Writes 4 codes to each of 4 places.
///
/// # Safety
/// They must be valid for that.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_quads([a, b, c, d]: [*mut u8; QUAD], codes: __m128i) {
    // SAFETY: the caller promises room for the codes.
    unsafe {
        a.cast::<i32>()
            .write_unaligned(_mm_extract_epi32::<0>(codes));
        b.cast::<i32>()
            .write_unaligned(_mm_extract_epi32::<1>(codes));
        c.cast::<i32>()
            .write_unaligned(_mm_extract_epi32::<2>(codes));
        d.cast::<i32>()
            .write_unaligned(_mm_extract_epi32::<3>(codes));
    }
}

/// Scales the sums of 4 channels of `P` pixels and writes their codes: those of pixel p from `to(p)` on.
///
/// # Safety
/// The CPU must have AVX2, the constants be valid for reads and each pixel's codes for writes of 4 numbers.
#[inline(always)]
pub(super) unsafe fn store_codes<const P: usize, const B: usize>(
    sums: &[[__m256i; B]; P],
    constants: Constants,
    to: impl Fn(usize) -> *mut u8,
    range: CodeRange,
) {
    assert!(P <= MOST); // Known when compiled.
    // SAFETY: the caller promises AVX2, the constants and the codes.
    unsafe {
        let scale = scale(constants);
        unrolled!(first to P, QUAD, {
            let [a, b, c, d] = pixels::<P>(first);
            let values = scaled(sums, [a, b, c, d], scale);
            let codes = by_pixels(encode(codes_of_values(values), range));
            store_quads([to(a), to(b), to(c), to(d)], codes);
        });
    }
}

/// Makes the sums of 4 channels of `P` pixels values of a map, and their codes: those of pixel p are at `at(p)` of
/// `map` and of the residual, and at `place(rows, p)` of each map of codes.
///
/// # Safety
/// The CPU must have AVX2, the constants and each pixel's residuals be valid for reads, its values and codes for
/// writes of 4 numbers.
#[expect(clippy::too_many_arguments, reason = "one operation on a tile")]
#[inline(always)]
pub(super) unsafe fn store_map<const P: usize, const B: usize>(
    sums: &[[__m256i; B]; P],
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
        let scale = scale(constants);
        let low = _mm_set1_epi16(low);
        let mut all = [_mm256_setzero_si256(); MOST / QUAD];
        unrolled!(first to P, QUAD, {
            let [a, b, c, d] = pixels::<P>(first);
            let halves = scaled(sums, [a, b, c, d], scale);
            let left = _mm256_castsi256_si128(halves);
            let right = _mm256_extracti128_si256::<1>(halves);
            let two = _mm_unpacklo_epi32(left, right);
            let others = _mm_unpackhi_epi32(left, right);
            // All residuals before any value is written: they may be in its place, and the last pixel twice among
            // the four.
            let (mut two, mut others) = (two, others);
            if let Some(residual) = residual {
                let residuals = load(residual, [at(a), at(b)]);
                others = _mm_adds_epi16(others, load(residual, [at(c), at(d)]));
                two = _mm_adds_epi16(two, residuals);
            }
            (two, others) = (_mm_max_epi16(two, low), _mm_max_epi16(others, low));
            store(map, [at(a), at(b)], two);
            store(map, [at(c), at(d)], others);
            all[first / QUAD] = _mm256_set_m128i(others, two);
        });
        for MapCodes { scale, rows } in codes.iter_mut() {
            let quantizer = Quantizer::new(*scale);
            let to = rows.codes.as_mut_ptr();
            unrolled!(first to P, QUAD, {
                let [a, b, c, d] = pixels::<P>(first);
                let codes = codes_of_values(quantizer.scale(all[first / QUAD]));
                // Written out: closures of `array::map` are not always inlined.
                let places = [
                    to.add(place(rows, a)),
                    to.add(place(rows, b)),
                    to.add(place(rows, c)),
                    to.add(place(rows, d)),
                ];
                store_quads(places, encode(codes, rows.range));
            });
        }
    }
}

/// Reads 4 values from each of two places.
///
/// # Safety
/// They must be valid for that.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: *const i16, [first, second]: [usize; 2]) -> __m128i {
    // SAFETY: the caller promises the values.
    unsafe {
        let first = _mm_loadl_epi64(from.add(first).cast());
        _mm_unpacklo_epi64(first, _mm_loadl_epi64(from.add(second).cast()))
    }
}

/// Writes 4 values to each of two places.
///
/// # Safety
/// They must be valid for that.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(to: *mut i16, [first, second]: [usize; 2], values: __m128i) {
    // SAFETY: the caller promises room for the values.
    unsafe {
        _mm_storel_epi64(to.add(first).cast(), values);
        _mm_storel_epi64(to.add(second).cast(), _mm_unpackhi_epi64(values, values));
    }
}
