//! Layers of common sizes: tiles of one row, in code in which the sizes are constants.
#![allow(unsafe_code)]

use super::{
    box_sum::Windows,
    by_taps::by_taps,
    output::Position,
    parts::{LargestTiles, SevenTiles},
    simd::SimdU8,
    slide::slide,
    tile::{Unit, max_pixels},
};

/// Width of most kernels.
pub(super) const WIDTH: usize = 3;

/// In place of a number of channels that is known when the kernel is compiled.
pub(super) const ANY: usize = 0;

/// Maps of 224 pixels that networks halve again and again: 56, 28, 14 and 7.
pub(super) const SEVEN: usize = 7;

impl Unit<'_, '_> {
    /// All pixels of `B` blocks of output channels, if there is code for such a layer.
    #[inline(always)]
    pub(super) fn in_sized_tiles<S: SimdU8, const B: usize>(
        &mut self,
        simd: S,
        block: usize,
    ) -> bool {
        let Windows {
            size: [height, columns],
            stride,
            per_row,
            channels,
            ..
        } = *self.windows;
        if !S::SIZED {
            return false;
        }
        let whole = per_row.is_multiple_of(max_pixels::<S, B>());
        // Tap by tap, heights are constants, too.
        let known = whole && (S::SLIDE || height == columns);
        let (single, sevens) = (known && !S::SLIDE, per_row.is_multiple_of(SEVEN));
        // Other tiles are few.
        let most = B == 2 || S::PIXELS_2 == 0;
        let unit = self.reborrow();
        match (columns, channels, stride) {
            (WIDTH, 16, 1) if known => {
                simd.vectorize(LargestTiles::<B, WIDTH, 16, 1> { unit, block })
            }
            (WIDTH, 16, 2) if known => {
                simd.vectorize(LargestTiles::<B, WIDTH, 16, 2> { unit, block })
            }
            (WIDTH, 32, 1) if known => {
                simd.vectorize(LargestTiles::<B, WIDTH, 32, 1> { unit, block })
            }
            (WIDTH, 32, 2) if known => {
                simd.vectorize(LargestTiles::<B, WIDTH, 32, 2> { unit, block })
            }
            (WIDTH, 64, 1) if known => {
                simd.vectorize(LargestTiles::<B, WIDTH, 64, 1> { unit, block })
            }
            (WIDTH, 64, 2) if known => {
                simd.vectorize(LargestTiles::<B, WIDTH, 64, 2> { unit, block })
            }
            (WIDTH, _, 1) if whole && most => {
                simd.vectorize(LargestTiles::<B, WIDTH, ANY, 1> { unit, block });
            }
            (WIDTH, _, 1) if sevens && most => {
                simd.vectorize(SevenTiles::<B> { unit, block });
            }
            (1, 16, 2) if single => simd.vectorize(LargestTiles::<B, 1, 16, 2> { unit, block }),
            (1, 32, 2) if single => simd.vectorize(LargestTiles::<B, 1, 32, 2> { unit, block }),
            (1, 64, 2) if single => simd.vectorize(LargestTiles::<B, 1, 64, 2> { unit, block }),
            _ => return false,
        }
        true
    }

    /// The same in the largest tiles, of which rows must have whole multiples.
    #[inline(always)]
    pub(super) fn largest_tiles<
        S: SimdU8,
        const B: usize,
        const SIZE: usize,
        const CHANNELS: usize,
        const STRIDE: usize,
    >(
        &mut self,
        simd: S,
        block: usize,
    ) {
        match max_pixels::<S, B>() {
            16 => self.tiles::<S, 16, B, SIZE, CHANNELS, STRIDE>(simd, block),
            8 => self.tiles::<S, 8, B, SIZE, CHANNELS, STRIDE>(simd, block),
            _ => self.tiles::<S, 4, B, SIZE, CHANNELS, STRIDE>(simd, block),
        }
    }

    /// `P` pixels at a time, of which rows have whole multiples; `SIZE` is the kernel's width, `CHANNELS` may be
    /// [`ANY`].
    #[inline(always)]
    pub(super) fn tiles<
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
