//! Looking up sums of small codes: `vpermb` takes 64 bytes from a table of 64 at once.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use crate::uint8::triples::{
    BLOCK, KERNELS, PER_BYTE, PIXELS, Space, TABLES, Tile, VECTORS, WIDTH,
};
use std::arch::x86_64::*;

/// Exists only if the CPU has AVX-512F, AVX-512BW and AVX-512 VBMI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vbmi(());

impl Vbmi {
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi");
        all.then_some(Self(()))
    }

    /// [`SimdU8::look_up`](crate::uint8::simd::SimdU8::look_up).
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn look_up(self, tile: Tile<'_>, vectors: usize, space: &mut Space<__m512i>) {
        // SAFETY: the token proves AVX-512F, AVX-512BW and VBMI; the caller promises the tile.
        unsafe {
            match vectors {
                1 => look_up_one(tile, space),
                _ => look_up_two(tile, space),
            }
        }
    }
}

/// 64 pixels.
///
/// # Safety
/// The tile must be valid for reads.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn look_up_one(tile: Tile<'_>, Space { wide, sums }: &mut Space<__m512i>) {
    // SAFETY: the caller promises the tile.
    unsafe { add_up::<1, KERNELS>(tile, 0, wide) };
    in_order::<1>(wide, 0, sums);
}

/// 128 pixels.
///
/// # Safety
/// The tile must be valid for reads.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn look_up_two(tile: Tile<'_>, Space { wide, sums }: &mut Space<__m512i>) {
    // Sixteen registers for sums here, too.
    const HALF: usize = KERNELS / 2;
    // SAFETY: the caller promises the tile.
    unsafe {
        add_up::<2, HALF>(tile, 0, wide);
        add_up::<2, HALF>(tile, HALF, wide);
    }
    in_order::<2>(wide, 0, sums);
    in_order::<2>(wide, 1, sums);
}

/// Memory for sums of 16 bits: of each kernel and vector of pixels those of even pixels, then those of odd ones.
type Wide = [__m512i; 2 * KERNELS * VECTORS];

/// The sums of `P` vectors of pixels and `K` kernels from `first` on.
///
/// # Safety
/// The tile must be valid for reads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn add_up<const P: usize, const K: usize>(tile: Tile<'_>, first: usize, wide: &mut Wide) {
    let low = _mm512_set1_epi16(0xff);
    let rounds = tile
        .offsets
        .chunks(PER_BYTE)
        .zip(tile.tables.chunks(PER_BYTE * KERNELS));
    for (round, (offsets, tables)) in rounds.enumerate() {
        let mut bytes = [[_mm512_setzero_si512(); P]; K];
        let mut tables = tables.as_ptr();
        for &offset in offsets {
            let mut x = [low; P];
            for p in 0..P {
                // SAFETY: the caller promises a byte for each pixel.
                x[p] = unsafe { _mm512_loadu_si512(tile.x.add(offset + p * PIXELS).cast()) };
            }
            for k in 0..K {
                // SAFETY: there are 16 tables for each offset, which begin where this says.
                let table = unsafe {
                    let start = usize::from(*tables.add(first + k));
                    _mm512_load_si512(TABLES.0.as_ptr().cast::<u8>().add(start).cast())
                };
                for p in 0..P {
                    bytes[k][p] =
                        _mm512_add_epi8(bytes[k][p], _mm512_permutexvar_epi8(x[p], table));
                }
            }
            tables = tables.wrapping_add(KERNELS);
        }
        for k in 0..K {
            for p in 0..P {
                let at = 2 * ((first + k) * P + p);
                let mut even = _mm512_and_si512(bytes[k][p], low);
                let mut odd = _mm512_srli_epi16::<8>(bytes[k][p]);
                if round > 0 {
                    even = _mm512_add_epi16(wide[at], even);
                    odd = _mm512_add_epi16(wide[at + 1], odd);
                }
                (wide[at], wide[at + 1]) = (even, odd);
            }
        }
    }
}

/// The sums of vector `p` of the pixels, those of 16 kernels side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn in_order<const P: usize>(wide: &Wide, p: usize, sums: &mut [[__m512i; 1]; PIXELS * VECTORS]) {
    // Words of the first or second operand, 8 from 8 · quarter on in both, each followed by a word of zeros.
    let words = |quarter: i16| {
        let from = |k: i16| (k / 8 * 32 + 8 * quarter + k % 8) as u16 as i32;
        _mm512_setr_epi32(
            from(0),
            from(1),
            from(2),
            from(3),
            from(4),
            from(5),
            from(6),
            from(7),
            from(8),
            from(9),
            from(10),
            from(11),
            from(12),
            from(13),
            from(14),
            from(15),
        )
    };
    let order = [words(0), words(1), words(2), words(3)];
    for odd in 0..2 {
        // Each step joins the pixels of twice as many kernels, within the quarters of registers.
        let mut two = [[_mm512_setzero_si512(); 2]; 8];
        for k in 0..8 {
            let sums = |k: usize| wide[2 * (k * P + p) + odd];
            let (a, b) = (sums(2 * k), sums(2 * k + 1));
            two[k] = [_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)];
        }
        let mut four = [[_mm512_setzero_si512(); 4]; 4];
        for k in 0..4 {
            for i in 0..2 {
                let (a, b) = (two[2 * k][i], two[2 * k + 1][i]);
                four[k][2 * i] = _mm512_unpacklo_epi32(a, b);
                four[k][2 * i + 1] = _mm512_unpackhi_epi32(a, b);
            }
        }
        let mut eight = [[_mm512_setzero_si512(); 8]; 2];
        for k in 0..2 {
            for i in 0..4 {
                let (a, b) = (four[2 * k][i], four[2 * k + 1][i]);
                eight[k][2 * i] = _mm512_unpacklo_epi64(a, b);
                eight[k][2 * i + 1] = _mm512_unpackhi_epi64(a, b);
            }
        }
        for quarter in 0..4 {
            for i in 0..8 {
                let (a, b) = (eight[0][i], eight[1][i]);
                let all = _mm512_maskz_permutex2var_epi16(0x5555_5555, a, order[quarter], b);
                sums[p * PIXELS + 2 * (8 * quarter + i) + odd] = [all];
            }
        }
    }
}

/// [`SimdU8::transpose`](crate::uint8::simd::SimdU8::transpose).
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn transpose(from: impl Fn(usize) -> *const u8, to: *mut u8, pitch: usize) {
    let mut rows = [_mm_setzero_si128(); BLOCK];
    for p in 0..BLOCK {
        // SAFETY: the caller promises 16 codes of each pixel.
        rows[p] = unsafe { _mm_loadu_si128(from(p).cast()) };
    }
    // Each step puts byte i of two registers half of them apart side by side: register and byte, 8 bits of
    // address together, are rotated by one bit, and four times that are the two exchanged.
    for _ in 0..4 {
        let mut next = rows;
        for i in 0..BLOCK / 2 {
            let (a, b) = (rows[i], rows[i + BLOCK / 2]);
            next[2 * i] = _mm_unpacklo_epi8(a, b);
            next[2 * i + 1] = _mm_unpackhi_epi8(a, b);
        }
        rows = next;
    }
    for channel in 0..BLOCK {
        // SAFETY: the caller promises 16 rows of 16 bytes.
        unsafe { _mm_storeu_si128(to.add(channel * pitch).cast(), rows[channel]) };
    }
}

/// [`SimdU8::join`](crate::uint8::simd::SimdU8::join). Codes are so small that a shift of many together leaves
/// each in its byte.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn join(from: *const u8, stride: usize, to: *mut u8) {
    // SAFETY: the caller promises 16 strides and 16 bytes more, of which all of these are part, and the block.
    unsafe {
        let load = |at: usize| _mm_loadu_si128(from.add(at).cast());
        let joined = match stride {
            1 => {
                let (a, b) = (_mm_slli_epi16::<4>(load(0)), _mm_slli_epi16::<2>(load(1)));
                _mm_or_si128(_mm_or_si128(a, b), load(2))
            }
            2 => {
                // The first two columns are a word, the third one is in the low half of the next.
                let low = _mm_set1_epi16(0xff);
                let words = |at: usize| {
                    let (now, next) = (load(at), load(at + 2));
                    let a = _mm_slli_epi16::<4>(_mm_and_si128(now, low));
                    let b = _mm_slli_epi16::<2>(_mm_srli_epi16::<8>(now));
                    _mm_or_si128(_mm_or_si128(a, b), _mm_and_si128(next, low))
                };
                _mm_packus_epi16(words(0), words(16))
            }
            _ => {
                for place in 0..BLOCK {
                    let three = from.add(place * stride).cast::<[u8; WIDTH]>().read();
                    *to.add(place) = three[0] << 4 | three[1] << 2 | three[2];
                }
                return;
            }
        };
        _mm_storeu_si128(to.cast(), joined);
    }
}
