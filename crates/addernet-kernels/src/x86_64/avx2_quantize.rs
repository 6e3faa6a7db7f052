//! The scale of a map's values in AVX2: what [`CodeScale::scale`] does, on 16 values.
#![allow(unsafe_code)]

use super::avx2_u8::hide;
use crate::uint8::rescale::CodeScale;
use std::arch::x86_64::*;

/// Scales the values of a map.
pub(super) trait Quantize: Copy {
    /// q of 16 values, saturated to i16.
    ///
    /// # Safety
    /// The CPU must have AVX2.
    unsafe fn scale(self, values: __m256i) -> __m256i;
}

/// A [`CodeScale`] in registers, see [`CodeScale::pairs`].
#[derive(Clone, Copy)]
pub(super) struct Quantizer {
    rounding: __m256i,
    factors: __m256i,
    shift: __m128i,
    zero: __m256i,
}

impl Quantizer {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(scale: CodeScale) -> Self {
        let pairs = scale.pairs();
        Self {
            rounding: _mm256_set1_epi16(pairs.rounding),
            factors: _mm256_set1_epi32(pairs.factors),
            shift: _mm_cvtsi32_si128(scale.shift() as i32),
            zero: _mm256_set1_epi16(scale.zero()),
        }
    }
}

impl Quantize for Quantizer {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn scale(self, values: __m256i) -> __m256i {
        let product = |pairs| _mm256_sra_epi32(_mm256_madd_epi16(pairs, self.factors), self.shift);
        let low = product(_mm256_unpacklo_epi16(values, self.rounding));
        let high = product(_mm256_unpackhi_epi16(values, self.rounding));
        _mm256_adds_epi16(_mm256_packs_epi32(low, high), self.zero)
    }
}

/// The same for shifts that [`CodeScale::high`] can do.
#[derive(Clone, Copy)]
pub(super) struct HighQuantizer {
    multiplier: __m256i,
    offset: __m256i,
    shift: __m128i,
}

impl HighQuantizer {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(scale: CodeScale) -> Option<Self> {
        let high = scale.high()?;
        Some(Self {
            multiplier: hide(_mm256_set1_epi16(scale.multiplier())),
            offset: _mm256_set1_epi16(high.offset),
            shift: _mm_cvtsi32_si128(high.shift as i32),
        })
    }
}

impl Quantize for HighQuantizer {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn scale(self, values: __m256i) -> __m256i {
        // Hidden, or the compiler widens the values outside the loop over codes and narrows them again here.
        let product = _mm256_mulhi_epi16(hide(values), self.multiplier);
        _mm256_sra_epi16(_mm256_add_epi16(product, self.offset), self.shift)
    }
}
