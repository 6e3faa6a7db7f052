//! Sums of pixels and of windows in AVX-512, and the pixels themselves.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use crate::uint8::{box_sum, maps};
use std::arch::x86_64::*;

/// Appends a zero to each pixel, 16 pixels at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn three_to_four(from: &[[u8; 3]], to: &mut [[u8; 4]]) {
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
pub(super) fn pixel_sums<const CHANNELS: usize>(x: &[u8], sums: &mut [i32]) {
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

/// [`SimdU8::window_sums`](crate::uint8::simd::SimdU8::window_sums): `V` vectors of windows of a row at a time, where
/// `V` vectors and [`SUMMED`](box_sum::SUMMED) bytes of pixels are the same. Sums of a row's pixels stay in registers
/// until those of the next two rows are there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn window_sums<const CHANNELS: usize, const V: usize>(
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
