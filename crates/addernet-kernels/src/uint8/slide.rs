//! Tiles whose windows slide along one row: a code that is read serves every window that sees it.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    simd::SimdU8,
    sized::{ANY, WIDTH},
    tile::Rows,
};

/// All terms of `P` neighbouring pixels of one row by `B` vectors, for kernels of [`WIDTH`] columns and of
/// `CHANNELS` input channels, or, if that is [`ANY`], of as many as `rows` say.
///
/// # Safety
/// `x` must be valid for reads of the input rows of the windows of `P` pixels, each `w` of a block, and
/// `x_sums`, with the max identity, of the window sums of `P` pixels `STRIDE` apart.
#[inline(always)]
pub(super) unsafe fn slide<
    S: SimdU8,
    const P: usize,
    const B: usize,
    const CHANNELS: usize,
    const STRIDE: usize,
>(
    simd: S,
    mut x: *const u8,
    mut w: [*const u8; B],
    x_sums: *const i32,
    rows: Rows,
) -> [[S::Sums; B]; P] {
    let vector = S::LANES * S::GROUP;
    let groups = match CHANNELS {
        ANY => rows.vectors / WIDTH,
        _ => CHANNELS / S::GROUP,
    };
    let channels = groups * S::GROUP;
    // SAFETY: the caller promises the window sums.
    let mut sums = [[unsafe { simd.start(x_sums) }; B]; P];
    for p in 1..P {
        // SAFETY: as above.
        sums[p] = [unsafe { simd.start(x_sums.wrapping_add(p * STRIDE)) }; B];
    }
    let factors = simd.factors();
    for _ in 0..rows.rows {
        for group in 0..groups {
            // SAFETY: taps and groups are inside the kernel's row, which the caller promises.
            let mut weights = [[unsafe { simd.load(w[0].add(group * vector)) }; B]; WIDTH];
            for v in 0..WIDTH {
                for b in 0..B {
                    let tap = (v * groups + group) * vector;
                    // SAFETY: as above.
                    weights[v][b] = unsafe { simd.load(w[b].add(tap)) };
                }
            }
            let codes = |column: usize| {
                let code = column * channels + group * S::GROUP;
                // SAFETY: the column is inside the windows' row, which the caller promises.
                unsafe { simd.broadcast(x.add(code)) }
            };
            // Two sums at a time: of a pixel or of two pixels.
            if B == 2 {
                // The codes that pixel `p` sees, of which its predecessor saw the first ones.
                let next = |[_, middle, right]: [S::Codes; WIDTH], p: usize| match STRIDE {
                    1 => [middle, right, codes(p + 2)],
                    _ => [right, codes(p * STRIDE + 1), codes(p * STRIDE + 2)],
                };
                let mut window = [codes(0), codes(1), codes(2)];
                for p in 0..P {
                    if p > 0 {
                        window = next(window, p);
                    }
                    for v in 0..WIDTH {
                        let w = [weights[v][0], weights[v][B - 1]];
                        let two = [sums[p][0], sums[p][B - 1]];
                        [sums[p][0], sums[p][B - 1]] =
                            simd.accumulate_two(two, [window[v]; 2], w, factors);
                    }
                }
            } else {
                // Codes are read right before their first use: few registers are free.
                let mut add = |p: usize, v: usize, x| {
                    let two = [sums[p][0], sums[p + 1][0]];
                    [sums[p][0], sums[p + 1][0]] =
                        simd.accumulate_two(two, x, [weights[v][0]; 2], factors);
                };
                let mut left = codes(0);
                let mut middle = codes(1);
                for p in (0..P - 1).step_by(2) {
                    let first = p * STRIDE;
                    if STRIDE == 1 {
                        add(p, 0, [left, middle]);
                        left = codes(first + 2);
                        add(p, 1, [middle, left]);
                        middle = codes(first + 3);
                        add(p, 2, [left, middle]);
                    } else {
                        let right = codes(first + 2);
                        add(p, 0, [left, right]);
                        add(p, 1, [codes(first + 1), codes(first + 3)]);
                        left = codes(first + 4);
                        add(p, 2, [right, left]);
                    }
                }
                if !P.is_multiple_of(2) {
                    let first = (P - 1) * STRIDE;
                    for v in 0..WIDTH {
                        let x = codes(first + v);
                        sums[P - 1][0] = simd.accumulate(sums[P - 1][0], x, weights[v][0], factors);
                    }
                }
            }
        }
        x = x.wrapping_add(rows.x_stride);
        for w in &mut w {
            *w = w.wrapping_add(WIDTH * groups * vector);
        }
    }
    sums
}
