//! Tiles of one row, one tap of the kernel after the other.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    simd::{SimdU8, unrolled},
    sized::ANY,
    tile::{Operands, Rows, accumulate},
};

/// [`slide`](super::slide::slide) for registers that have no room for the weights of three taps: those of one tap at a
/// time, and codes are read for every window that sees them. Kernels are `SIZE` columns wide, and as many rows high unless
/// `CHANNELS` is [`ANY`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn by_taps<
    S: SimdU8,
    const P: usize,
    const B: usize,
    const SIZE: usize,
    const CHANNELS: usize,
    const STRIDE: usize,
>(
    simd: S,
    x: *const u8,
    w: [*const u8; B],
    x_sums: *const i32,
    rows: Rows,
) -> [[S::Sums; B]; P] {
    let vector = S::LANES * S::GROUP;
    if CHANNELS == ANY {
        let channels = rows.vectors / SIZE * S::GROUP;
        let mut pixels = [x; P];
        let mut all_sums = [x_sums; P];
        for p in 1..P {
            pixels[p] = x.wrapping_add(p * STRIDE * channels);
            all_sums[p] = x_sums.wrapping_add(p * STRIDE);
        }
        let at = Operands {
            w,
            x_sums: all_sums,
        };
        // SAFETY: the caller promises the windows, the blocks and the window sums.
        return unsafe { accumulate::<S, P, B>(simd, pixels, at, rows) };
    }
    // SAFETY: the caller promises the window sums.
    let mut sums = [[unsafe { simd.start(x_sums) }; B]; P];
    for p in 1..P {
        // SAFETY: as above.
        sums[p] = [unsafe { simd.start(x_sums.wrapping_add(p * STRIDE)) }; B];
    }
    let factors = simd.factors();
    let vectors = SIZE * CHANNELS / S::GROUP;
    // Written out, so that the compiler knows what is carried when: before each row whose terms do not fit those since
    // the last time.
    unrolled!(row to SIZE, {
        if row > 0 && row.is_multiple_of(S::CARRY / vectors) {
            for sums in sums.as_flattened_mut() {
                *sums = simd.carry(*sums);
            }
        }
        let x = x.wrapping_add(row * rows.x_stride);
        for at in 0..vectors {
            // SAFETY: the vector is inside the kernel's row, which the caller promises.
            let mut weights = [unsafe { simd.load(w[0].add((row * vectors + at) * vector)) }; B];
            for b in 1..B {
                // SAFETY: as above.
                weights[b] = unsafe { simd.load(w[b].add((row * vectors + at) * vector)) };
            }
            // The next taps see most of these codes again.
            let x = simd.reread(x.wrapping_add(at * S::GROUP));
            for p in 0..P {
                // SAFETY: the group is inside the window's row, which the caller promises.
                let x = unsafe { simd.broadcast(x.add(p * STRIDE * CHANNELS)) };
                for b in 0..B {
                    sums[p][b] = simd.accumulate(sums[p][b], x, weights[b], factors);
                }
            }
        }
    });
    sums
}
