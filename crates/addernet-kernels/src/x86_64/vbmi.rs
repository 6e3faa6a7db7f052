//! Looking up sums of small codes: `vpermb` takes 64 bytes from a table of 64 at once.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use crate::uint8::triples::{BLOCK, KERNELS, PER_BYTE, PIXELS, Sums, TABLES, Tile, Wide};
use std::arch::{asm, x86_64::*};

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

    /// [`SimdU8::transpose`](crate::uint8::simd::SimdU8::transpose).
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn transpose(
        self,
        from: *const u8,
        distance: usize,
        to: *mut u8,
        pitch: usize,
        size: [usize; 2],
    ) {
        // SAFETY: the token proves AVX-512F, AVX-512BW and VBMI; the caller promises pixels and rows.
        unsafe { transpose(from, distance, to, pitch, size) }
    }

    /// [`SimdU8::look_up`](crate::uint8::simd::SimdU8::look_up).
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn look_up(self, tile: Tile<'_>, vectors: usize, wide: &mut Wide<__m512i>) {
        // SAFETY: the token proves AVX-512F, AVX-512BW and VBMI; the caller promises the tile.
        unsafe {
            match vectors {
                1 => look_up::<1, 16>(tile, wide),
                2 => look_up::<2, 8>(tile, wide),
                3 => look_up::<3, 8>(tile, wide),
                _ => look_up::<4, 4>(tile, wide),
            }
        }
    }
}

/// `P` vectors of pixels, `K` kernels at a time: their sums are in registers. A table that is read serves `P`
/// vectors, and a vector that is read serves `K` kernels.
///
/// # Safety
/// The tile must be valid for reads.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn look_up<const P: usize, const K: usize>(tile: Tile<'_>, wide: &mut Wide<__m512i>) {
    // All kernels at once: a first kernel that is known to be 0 spares the loop address arithmetic.
    if K == KERNELS {
        // SAFETY: the caller promises the tile.
        unsafe { add_up::<P, K>(tile, 0, wide) };
        return;
    }
    for first in (0..KERNELS).step_by(K) {
        // SAFETY: as above.
        unsafe { add_up::<P, K>(tile, first, wide) };
    }
}

/// The sums of `P` vectors of pixels and `K` kernels from `first` on.
///
/// # Safety
/// The tile must be valid for reads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn add_up<const P: usize, const K: usize>(
    tile: Tile<'_>,
    first: usize,
    wide: &mut Wide<__m512i>,
) {
    let rounds = tile
        .offsets
        .chunks(PER_BYTE)
        .zip(tile.tables.chunks(PER_BYTE * KERNELS));
    for (round, (offsets, tables)) in rounds.enumerate() {
        let mut bytes = [[_mm512_setzero_si512(); P]; K];
        let mut tables = tables.as_ptr();
        for &offset in offsets {
            let mut x = [_mm512_setzero_si512(); P];
            for p in 0..P {
                // SAFETY: the caller promises a byte for each pixel.
                x[p] = unsafe { _mm512_loadu_si512(tile.x.add(offset + p * PIXELS).cast()) };
            }
            for four in (0..K).step_by(4) {
                // Four at once: a load for each would be as many as there are lookups.
                // SAFETY: there are 16 numbers for each offset.
                let mut starts = unsafe { tables.add(first + four).cast::<u64>().read_unaligned() };
                hide(&mut starts);
                let mut next = || {
                    // SAFETY: a table begins where this says.
                    let table = unsafe {
                        let start = usize::from(starts as u16);
                        _mm512_load_si512(TABLES.0.as_ptr().cast::<u8>().add(start).cast())
                    };
                    starts >>= 16;
                    table
                };
                for [a, b] in [[four, four + 1], [four + 2, four + 3]] {
                    let two = [next(), next()];
                    for p in 0..P {
                        [bytes[a][p], bytes[b][p]] = add_two([bytes[a][p], bytes[b][p]], x[p], two);
                    }
                }
            }
            tables = tables.wrapping_add(KERNELS);
        }
        for k in 0..K {
            for p in 0..P {
                let at = 2 * (p * KERNELS + first + k);
                let mut both = bytes[k][p];
                let mut odd = _mm512_srli_epi16::<8>(both);
                if round > 0 {
                    // SAFETY: the first round wrote them.
                    let before = unsafe { [wide[at].assume_init(), wide[at + 1].assume_init()] };
                    both = _mm512_add_epi16(before[0], both);
                    odd = _mm512_add_epi16(before[1], odd);
                }
                wide[at].write(both);
                wide[at + 1].write(odd);
            }
        }
    }
}

/// Keeps the compiler from reading a number's parts one by one.
#[inline(always)]
fn hide(number: &mut u64) {
    // SAFETY: there is no instruction in it.
    unsafe {
        asm!(
            "/* {0} */",
            inout(reg) * number,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
}

/// Looks each code up in two tables and adds to two vectors what is there. The additions follow one another, and thereby
/// both lookups, which can start in half as many pipes: in turns they would be in each other's way (on Zen 4 by a quarter
/// of the time).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add_two(
    [mut first, mut second]: [__m512i; 2],
    x: __m512i,
    tables: [__m512i; 2],
) -> [__m512i; 2] {
    let found = tables.map(|table| _mm512_permutexvar_epi8(x, table));
    // SAFETY: the instructions are among those of the features above, on registers alone.
    unsafe {
        asm!(
            "vpaddb {0}, {0}, {2}",
            "vpaddb {1}, {1}, {3}",
            inout(zmm_reg) first,
            inout(zmm_reg) second,
            in(zmm_reg) found[0],
            in(zmm_reg) found[1],
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [first, second]
}

/// For each quarter the words of two registers that are in it, 8 of the first and 8 of the second, each as the low
/// half of 32 bits.
const QUARTERS: [[i32; KERNELS]; 4] = {
    let mut all = [[0; KERNELS]; 4];
    let mut at = 0;
    while at < 4 * KERNELS {
        let (quarter, k) = (at / KERNELS, at % KERNELS);
        // The second register's words are behind the 32 of the first.
        all[quarter][k] = (k / 8 * 32 + 8 * quarter + k % 8) as i32;
        at += 1;
    }
    all
};

/// [`SimdU8::in_order`](crate::uint8::simd::SimdU8::in_order).
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn in_order(wide: &Wide<__m512i>, vector: usize, sums: &mut Sums<__m512i>) {
    let wide = &wide.as_chunks::<{ 2 * KERNELS }>().0[vector];
    // SAFETY: there are 16 numbers for each quarter.
    let order = QUARTERS.map(|words| unsafe { _mm512_loadu_si512(words.as_ptr().cast()) });
    for odd in 0..2 {
        // SAFETY: the caller promises the vector's sums.
        let sums_of = |k: usize| unsafe {
            let [both, odds] = [wide[2 * k].assume_init(), wide[2 * k + 1].assume_init()];
            match odd {
                0 => _mm512_sub_epi16(both, _mm512_slli_epi16::<8>(odds)),
                _ => odds,
            }
        };
        // Each step joins the pixels of twice as many kernels, within the quarters of registers.
        let mut two = [[_mm512_setzero_si512(); 2]; 8];
        for k in 0..8 {
            let (a, b) = (sums_of(2 * k), sums_of(2 * k + 1));
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
                sums[2 * (8 * quarter + i) + odd] = [all];
            }
        }
    }
}

/// [`SimdU8::transpose`](crate::uint8::simd::SimdU8::transpose).
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn transpose(
    from: *const u8,
    distance: usize,
    to: *mut u8,
    pitch: usize,
    [rows, pixels]: [usize; 2],
) {
    // Byte i of pixel p, 16 · p + i, to place 4 · i + p.
    let mut order = [0u8; PIXELS];
    for (to, from) in order.iter_mut().enumerate() {
        *from = (to % 4 * BLOCK + to / 4) as u8;
    }
    // SAFETY: there are 64 bytes.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    // Four pixels in each register, those of a channel side by side.
    let mut fours = [_mm512_setzero_si512(); BLOCK];
    for r in 0..BLOCK {
        let pixel = |p: usize| from.wrapping_add((4 * r + p) * distance);
        // SAFETY: the caller promises 16 bytes of each pixel.
        let four = unsafe {
            if distance == BLOCK {
                _mm512_loadu_si512(pixel(0).cast())
            } else {
                let load = |p: usize| _mm_loadu_si128(pixel(p).cast());
                let all = _mm512_castsi128_si512(load(0));
                let all = _mm512_inserti32x4::<1>(all, load(1));
                let all = _mm512_inserti32x4::<2>(all, load(2));
                _mm512_inserti32x4::<3>(all, load(3))
            }
        };
        fours[r] = _mm512_permutexvar_epi8(order, four);
    }
    // Quarter q of register 4 · r + i: 16 pixels from 16 · r on of channel 4 · q + i.
    let mut sixteens = fours;
    for r in (0..BLOCK).step_by(4) {
        let [a, b, c, d] = [fours[r], fours[r + 1], fours[r + 2], fours[r + 3]];
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        sixteens[r] = _mm512_unpacklo_epi64(ab, cd);
        sixteens[r + 1] = _mm512_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        sixteens[r + 2] = _mm512_unpacklo_epi64(ab, cd);
        sixteens[r + 3] = _mm512_unpackhi_epi64(ab, cd);
    }
    let mut all = sixteens;
    for i in 0..4 {
        let [a, b, c, d] = [
            sixteens[i],
            sixteens[4 + i],
            sixteens[8 + i],
            sixteens[12 + i],
        ];
        // Even quarters of both, then odd ones.
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        let (ab, cd) = (
            _mm512_shuffle_i32x4::<EVEN>(a, b),
            _mm512_shuffle_i32x4::<EVEN>(c, d),
        );
        all[i] = _mm512_shuffle_i32x4::<EVEN>(ab, cd);
        all[8 + i] = _mm512_shuffle_i32x4::<ODD>(ab, cd);
        let (ab, cd) = (
            _mm512_shuffle_i32x4::<ODD>(a, b),
            _mm512_shuffle_i32x4::<ODD>(c, d),
        );
        all[4 + i] = _mm512_shuffle_i32x4::<EVEN>(ab, cd);
        all[12 + i] = _mm512_shuffle_i32x4::<ODD>(ab, cd);
    }
    for channel in 0..BLOCK {
        if channel >= rows {
            return;
        }
        let to = to.wrapping_add(channel * pitch);
        if pixels == PIXELS {
            // SAFETY: the caller promises so many rows of 64 bytes.
            unsafe { _mm512_storeu_si512(to.cast(), all[channel]) };
            continue;
        }
        let mut rest = all[channel];
        for first in (0..pixels).step_by(BLOCK) {
            // SAFETY: as above, of as many bytes.
            unsafe { _mm_storeu_si128(to.add(first).cast(), _mm512_castsi512_si128(rest)) };
            rest = _mm512_alignr_epi64::<2>(rest, rest);
        }
    }
}

/// [`SimdU8::join`](crate::uint8::simd::SimdU8::join). Codes are so small that a shift of many together leaves
/// each in its byte.
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn join(from: *const u8, distance: usize, len: usize, to: *mut u8) {
    for at in (0..len).step_by(PIXELS) {
        let mask = u64::MAX >> (PIXELS - PIXELS.min(len - at));
        // SAFETY: the mask leaves out what is behind the codes, and `to` has room for a whole vector.
        unsafe {
            let codes =
                |i: usize| _mm512_maskz_loadu_epi8(mask, from.add(at + i * distance).cast());
            let a = _mm512_slli_epi16::<4>(codes(0));
            let b = _mm512_slli_epi16::<2>(codes(1));
            let joined = _mm512_or_si512(_mm512_or_si512(a, b), codes(2));
            _mm512_storeu_si512(to.add(at).cast(), joined);
        }
    }
}
