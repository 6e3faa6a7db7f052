//! Looking up sums of codes of 2 bits in AVX2: `vpshufb` takes 16 bytes from each of two tables of 16.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use crate::uint8::fours::{CHANNELS, KERNELS, PER_BYTE, ROW, ROWS, Sums, Window, portable_join};
use std::arch::{asm, x86_64::*};

/// [`SimdU8::join_fours`](crate::uint8::simd::SimdU8::join_fours).
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn join(codes: &[u8], to: &mut [u16]) {
    /// Codes of two vectors, and what becomes of them.
    const CODES: usize = 64;
    const JOINED: usize = CODES / CHANNELS;
    // 64·x₁ + 16·x₂ and 4·x₃ + x₄, and then both, times the length of a row.
    let factors = _mm256_set1_epi32(i32::from_le_bytes([64, 16, 4, 1]));
    let row = _mm256_set1_epi16(ROW as i16);
    let (vectors, rest) = codes.as_chunks::<CODES>();
    let (joined, rest_joined) = to.split_at_mut(vectors.len() * JOINED);
    for (codes, joined) in vectors.iter().zip(joined.as_chunks_mut::<JOINED>().0) {
        let four = |first: usize| {
            // SAFETY: there are two vectors.
            let codes = unsafe { _mm256_loadu_si256(codes[first..].as_ptr().cast()) };
            _mm256_madd_epi16(_mm256_maddubs_epi16(codes, factors), row)
        };
        // Codes above 3, which no caller may have, would lead out of the tables: the mask keeps every start inside.
        let packed = _mm256_packus_epi32(four(0), four(CODES / 2));
        let inside = _mm256_and_si256(
            packed,
            _mm256_set1_epi16((ROWS.0.len() - 1) as i16 * ROW as i16),
        );
        let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(inside);
        // SAFETY: there is a vector.
        unsafe { _mm256_storeu_si256(joined.as_mut_ptr().cast(), ordered) };
    }
    portable_join(rest, rest_joined);
}

/// [`SimdU8::look_up_fours`](crate::uint8::simd::SimdU8::look_up_fours).
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn look_up<const P: usize, const B: usize>(
    mut x: [*const u16; P],
    mut w: [*const u8; B],
    window: Window,
    sums: &mut [Sums; B],
) {
    let zero = _mm256_setzero_si256();
    let mut bytes = [[zero; B]; P];
    // Kernels 0 to 7, those of the first table and of the second, and kernels 8 to 15.
    let mut words = [[[zero; 2]; B]; P];
    let mut room = PER_BYTE;
    let all = all_tables();
    for _ in 0..window.rows {
        let mut done = 0;
        while done < window.steps {
            if room == 0 {
                widen(&mut bytes, &mut words);
                room = PER_BYTE;
            }
            let count = room.min(window.steps - done);
            for step in done..done + count {
                let mut places = [zero; B];
                for b in 0..B {
                    // SAFETY: the step is inside the kernel's row, which the caller promises.
                    places[b] = unsafe { _mm256_loadu_si256(w[b].add(step * ROW).cast()) };
                }
                for p in 0..P {
                    // SAFETY: the step is inside the window's row, which the caller promises, and says where
                    // a row of 32 bytes begins.
                    let tables = unsafe {
                        let start = usize::from(*x[p].add(step));
                        _mm256_load_si256(all.add(start).cast())
                    };
                    for b in 0..B {
                        let found = _mm256_shuffle_epi8(tables, places[b]);
                        bytes[p][b] = _mm256_add_epi8(bytes[p][b], found);
                    }
                }
            }
            done += count;
            room -= count;
        }
        for x in &mut x {
            *x = x.wrapping_add(window.pitch);
        }
        for w in &mut w {
            *w = w.wrapping_add(window.steps * ROW);
        }
    }
    widen(&mut bytes, &mut words);
    for p in 0..P {
        for b in 0..B {
            let [low, high] = words[p][b];
            let all = _mm256_add_epi16(
                _mm256_permute2x128_si256::<0x20>(low, high),
                _mm256_permute2x128_si256::<0x31>(low, high),
            );
            let to: &mut [u16; KERNELS] = &mut sums[b][p];
            // SAFETY: there is room for 16 numbers.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), all) };
        }
    }
}

/// Where the rows of tables are, in a register: where the compiler knows that it could read it again, it does, for
/// each of them.
#[inline(always)]
fn all_tables() -> *const u8 {
    let mut rows = ROWS.0.as_ptr().cast();
    // SAFETY: there is no instruction in it.
    unsafe {
        asm!(
            "/* {0} */",
            inout(reg) rows,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    rows
}

/// Adds sums of 8 bits to those of 16, and clears them.
#[inline]
#[target_feature(enable = "avx2")]
fn widen<const P: usize, const B: usize>(
    bytes: &mut [[__m256i; B]; P],
    words: &mut [[[__m256i; 2]; B]; P],
) {
    let zero = _mm256_setzero_si256();
    for p in 0..P {
        for b in 0..B {
            let both = [
                _mm256_unpacklo_epi8(bytes[p][b], zero),
                _mm256_unpackhi_epi8(bytes[p][b], zero),
            ];
            for half in 0..2 {
                words[p][b][half] = _mm256_add_epi16(words[p][b][half], both[half]);
            }
            bytes[p][b] = zero;
        }
    }
}
