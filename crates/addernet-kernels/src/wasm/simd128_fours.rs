//! Looking up sums of codes of 2 bits in simd128: a swizzle takes 16 bytes from a table of 16.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use crate::uint8::fours::{KERNELS, PER_BYTE, ROW, ROWS, Sums, Window};
use std::arch::wasm32::*;

/// Steps whose sums of two tables can be added up in a byte.
const STEPS: usize = PER_BYTE / 2;

/// [`SimdU8::look_up_fours`](crate::uint8::simd::SimdU8::look_up_fours).
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn look_up<const P: usize, const B: usize>(
    mut x: [*const u16; P],
    mut w: [*const u8; B],
    window: Window,
    sums: &mut [Sums; B],
) {
    let zero = u8x16_splat(0);
    let mut bytes = [[zero; B]; P];
    let mut room = STEPS;
    for _ in 0..window.rows {
        let mut done = 0;
        while done < window.steps {
            if room == 0 {
                add(&mut bytes, sums);
                room = STEPS;
            }
            let count = room.min(window.steps - done);
            for step in done..done + count {
                let mut places = [[zero; 2]; B];
                for b in 0..B {
                    let from = w[b].wrapping_add(step * ROW);
                    // SAFETY: the step is inside the kernel's row, which the caller promises.
                    places[b] = unsafe { two(from) };
                }
                for p in 0..P {
                    // SAFETY: the step is inside the window's row, which the caller promises, and says where
                    // a row of two tables begins.
                    let tables = unsafe {
                        let start = usize::from(*x[p].add(step));
                        two(ROWS.0.as_ptr().cast::<u8>().add(start))
                    };
                    for b in 0..B {
                        let found = [0, 1].map(|i| u8x16_swizzle(tables[i], places[b][i]));
                        bytes[p][b] = u8x16_add(bytes[p][b], u8x16_add(found[0], found[1]));
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
    add(&mut bytes, sums);
}

/// Two registers.
///
/// # Safety
/// `from` must be valid for reads of 32 bytes.
#[inline(always)]
unsafe fn two(from: *const u8) -> [v128; 2] {
    // SAFETY: the caller promises the bytes.
    unsafe { [v128_load(from.cast()), v128_load(from.add(16).cast())] }
}

/// Adds sums of 8 bits to those of 16, and clears them.
#[inline(always)]
fn add<const P: usize, const B: usize>(bytes: &mut [[v128; B]; P], sums: &mut [Sums; B]) {
    for p in 0..P {
        for b in 0..B {
            let halves = [
                u16x8_extend_low_u8x16(bytes[p][b]),
                u16x8_extend_high_u8x16(bytes[p][b]),
            ];
            for (half, more) in sums[b][p]
                .as_chunks_mut::<{ KERNELS / 2 }>()
                .0
                .iter_mut()
                .zip(halves)
            {
                // SAFETY: there are 8 numbers.
                unsafe {
                    let to = half.as_mut_ptr().cast();
                    v128_store(to, u16x8_add(v128_load(to), more));
                }
            }
            bytes[p][b] = u8x16_splat(0);
        }
    }
}
