//! Tiles whose windows slide along one row: a code that is read serves every window that sees it.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    output::Position,
    simd::{SimdU8, unrolled},
    tile::{Operands, Rows, Unit, accumulate, max_pixels},
};

/// Kernel width of the sliding tiles.
pub(super) const WIDTH: usize = 3;

/// In place of a number of channels that is known when the kernel is compiled.
pub(super) const ANY: usize = 0;

impl Unit<'_, '_> {
    /// All pixels of `B` blocks of output channels in the largest tiles, of which rows must have whole multiples. All
    /// sizes are constants.
    #[inline(always)]
    pub(super) fn sliding<S: SimdU8, const B: usize, const CHANNELS: usize, const STRIDE: usize>(
        &mut self,
        simd: S,
        block: usize,
    ) {
        match max_pixels::<S, B>() {
            16 => self.slide::<S, 16, B, WIDTH, CHANNELS, STRIDE>(simd, block),
            8 => self.slide::<S, 8, B, WIDTH, CHANNELS, STRIDE>(simd, block),
            _ => self.slide::<S, 4, B, WIDTH, CHANNELS, STRIDE>(simd, block),
        }
    }

    /// `P` pixels at a time, of which rows have whole multiples; `CHANNELS` may be [`ANY`].
    #[inline(always)]
    pub(super) fn slide<
        S: SimdU8,
        const P: usize,
        const B: usize,
        const SIZE: usize,
        const CHANNELS: usize,
        const STRIDE: usize,
    >(
        &mut self,
        simd: S,
        block: usize,
    ) {
        if P > max_pixels::<S, B>() || !S::SIZED || S::SLIDE && SIZE != WIDTH {
            return; // Never happens; the compiler sees that and leaves such tiles out.
        }
        // Copies, which no write to the output can change: the addresses of a tile must not wait for the
        // tile before it.
        let (windows, width) = (*self.windows, self.windows.per_row);
        let rows = self.window_rows();
        let w = self.operands::<S, P, B>(block).w;
        let channels = self.weights.shape()[0];
        let step = self.output.step(channels);
        let tiles = width / P;
        for row in 0..self.rows.len() {
            let first = Position { row, column: 0 };
            let mut x = self.window(first);
            let mut to = self.output.offset(first, width, channels);
            let mut x_sums = match S::MAX_IDENTITY {
                true => self.buffers.sums.row(row)[..=(width - 1) * STRIDE].as_ptr(),
                false => std::ptr::null(),
            };
            let mut column = 0;
            for _ in 0..tiles {
                // SAFETY: `Unit::new` checked that the windows lie inside `x`, so that their sums are there,
                // and `run` that rows of windows and of blocks are equally long and that blocks have this
                // kernel's lanes.
                unsafe {
                    let sums = match S::SLIDE {
                        true => slide::<S, P, B, CHANNELS, STRIDE>(simd, x, w, x_sums, rows),
                        false => {
                            by_taps::<S, P, B, SIZE, CHANNELS, STRIDE>(simd, x, w, x_sums, rows)
                        }
                    };
                    let position = |p| Position {
                        row,
                        column: column + p,
                    };
                    self.store(simd, block, |p| to + p * step, position, &sums);
                }
                x = x.wrapping_add(P * STRIDE * windows.channels);
                x_sums = x_sums.wrapping_add(P * STRIDE);
                to += P * step;
                column += P;
            }
        }
    }
}

/// All terms of `P` neighbouring pixels of one row by `B` vectors, for kernels of [`WIDTH`] columns and of
/// `CHANNELS` input channels, or, if that is [`ANY`], of as many as `rows` say.
///
/// # Safety
/// `x` must be valid for reads of the input rows of the windows of `P` pixels, each `w` of a block, and
/// `x_sums`, with the max identity, of the window sums of `P` pixels `STRIDE` apart.
#[inline(always)]
unsafe fn slide<
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

/// [`slide`] for registers that have no room for the weights of three taps: those of one tap at a time, and codes are
/// read for every window that sees them. Kernels are `SIZE` columns wide, and those of a known number of channels as many rows high.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn by_taps<
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
        if vectors <= 6 {
            unrolled!(at to vectors, {
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
        });
        } else {
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
        }
    });
    sums
}
