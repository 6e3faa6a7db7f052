//! The ordinary convolution of two pixels in AVX2, for AVX-512 without dot products.
#![allow(unsafe_code)]

use crate::uint8::simd::DotWindow;
use std::arch::x86_64::*;

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
