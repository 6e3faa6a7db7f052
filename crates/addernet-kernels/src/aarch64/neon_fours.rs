//! Looking up sums of codes of 2 bits in NEON: `tbl` takes 16 bytes from a table of 16.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use crate::uint8::fours::{KERNELS, PER_BYTE, ROW, ROWS, Sums, Window};
use std::arch::aarch64::*;

/// Steps whose sums of two tables can be added up in a byte.
const STEPS: usize = PER_BYTE / 2;

/// [`SimdU8::look_up_fours`](crate::uint8::simd::SimdU8::look_up_fours).
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn look_up<const P: usize, const B: usize>(
    mut x: [*const u16; P],
    mut w: [*const u8; B],
    window: Window,
    sums: &mut [Sums; B],
) {
    let zero = vdupq_n_u8(0);
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
                let mut places = [uint8x16x2_t(zero, zero); B];
                for b in 0..B {
                    let from = w[b].wrapping_add(step * ROW);
                    // SAFETY: the step is inside the kernel's row, which the caller promises.
                    places[b] = unsafe { vld1q_u8_x2(from) };
                }
                for p in 0..P {
                    // SAFETY: the step is inside the window's row, which the caller promises, and says where
                    // a row of two tables begins.
                    let tables = unsafe {
                        let start = usize::from(*x[p].add(step));
                        vld1q_u8_x2(ROWS.0.as_ptr().cast::<u8>().add(start))
                    };
                    for b in 0..B {
                        let first = vqtbl1q_u8(tables.0, places[b].0);
                        let second = vqtbl1q_u8(tables.1, places[b].1);
                        bytes[p][b] = vaddq_u8(vaddq_u8(bytes[p][b], first), second);
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

/// Adds sums of 8 bits to those of 16, and clears them.
#[inline]
#[target_feature(enable = "neon")]
fn add<const P: usize, const B: usize>(bytes: &mut [[uint8x16_t; B]; P], sums: &mut [Sums; B]) {
    for p in 0..P {
        for b in 0..B {
            let halves = [vget_low_u8(bytes[p][b]), vget_high_u8(bytes[p][b])];
            for (half, more) in sums[b][p]
                .as_chunks_mut::<{ KERNELS / 2 }>()
                .0
                .iter_mut()
                .zip(halves)
            {
                // SAFETY: there are 8 numbers.
                unsafe { vst1q_u16(half.as_mut_ptr(), vaddw_u8(vld1q_u16(half.as_ptr()), more)) };
            }
            bytes[p][b] = vdupq_n_u8(0);
        }
    }
}
