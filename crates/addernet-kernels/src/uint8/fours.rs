//! Sums of codes of 2 bits where a register looks up in tables of 16 bytes: four neighbouring channels of a pixel, joined
//! into one number, say where a row of two such tables begins. In the first, place 4·w₁ + w₂ has |x₁ − w₁| + |x₂ − w₂|, in
//! the second, place 4·w₃ + w₄ has |x₃ − w₃| + |x₄ − w₄|. Weights are the places: one instruction looks up those of 16
//! kernels in both tables, 64 terms.
//!
//! [`triples`](super::triples) is the same the other way round, for tables of 64 bytes: there weights are tables, and
//! pixels the places in them.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]
#![cfg_attr(
    not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "wasm32"
    )),
    allow(dead_code, reason = "no other instruction set does it")
)]

use super::{output::Position, simd::SimdU8, tile::Unit};
use crate::aligned::AlignedVec;

/// Kernels of a block.
pub(crate) const KERNELS: usize = 16;
/// Channels that are joined.
pub(crate) const CHANNELS: usize = 4;
/// Bytes of a row of tables, and of the weights that look up in it.
pub(crate) const ROW: usize = 32;
/// The largest code.
const LARGEST: u8 = 3;
/// So many looked-up sums of two terms can be added up in a byte.
pub(crate) const PER_BYTE: usize = u8::MAX as usize / (2 * LARGEST as usize);
/// The largest tiles of one block and of two, in pixels.
const PIXELS: [usize; 2] = [8, 4];
/// Pixels whose sums are written together.
const STORED: usize = 4;

/// The row of each 64·x₁ + 16·x₂ + 4·x₃ + x₄.
#[repr(align(64))]
pub(crate) struct Rows(pub(crate) [[u8; ROW]; 256]);

pub(crate) static ROWS: Rows = Rows(rows());

const fn rows() -> [[u8; ROW]; 256] {
    let mut rows = [[0; ROW]; 256];
    let mut x = 0;
    while x < 256 {
        let mut at = 0;
        while at < ROW {
            // The first table is of the byte's upper half.
            let pair = x as u8 >> if at < ROW / 2 { 4 } else { 0 };
            let w = at as u8;
            let first = (pair >> 2 & LARGEST).abs_diff(w >> 2 & LARGEST);
            rows[x][at] = first + (pair & LARGEST).abs_diff(w & LARGEST);
            at += 1;
        }
        x += 1;
    }
    rows
}

/// Weights in places of tables, `[out_channels / 16][height][width][in_channels / 4][2][16]`.
#[derive(Clone, Debug)]
pub(crate) struct FourWeights {
    places: AlignedVec<u8>,
    /// Steps of a kernel's row: its columns · channels / 4.
    steps: usize,
    /// Bytes of a block.
    block: usize,
}

impl FourWeights {
    /// Whether sums of kernels of this (OIHW) shape and codes up to `largest` can be looked up: they fit 16 bits.
    pub(crate) fn fit([_, in_channels, height, width]: [usize; 4], largest: u8) -> bool {
        let most = usize::from(u16::MAX) / usize::from(LARGEST);
        let taps = in_channels.saturating_mul(height).saturating_mul(width);
        largest <= LARGEST && taps <= most
    }

    /// Packs OIHW weights that [`fit`](Self::fit). Missing channels, on either side, are zeros; `channels` is a
    /// multiple of 4.
    pub(crate) fn new(shape: [usize; 4], weights: &[u8], channels: usize) -> Self {
        let [out_channels, in_channels, height, width] = shape;
        let (area, fours) = (height * width, channels / CHANNELS);
        let block = area * fours * ROW;
        let mut places = AlignedVec::zeros(out_channels.div_ceil(KERNELS) * block);
        for (o, kernel) in weights.chunks_exact(in_channels * area).enumerate() {
            for (i, &w) in kernel.iter().enumerate() {
                let (channel, tap) = (i / area, i % area);
                let (four, within) = (channel / CHANNELS, channel % CHANNELS);
                let row = o / KERNELS * block + (tap * fours + four) * ROW;
                let at = row + within / 2 * KERNELS + o % KERNELS;
                places.as_mut_slice()[at] |= w << if within % 2 == 0 { 2 } else { 0 };
            }
        }
        Self {
            places,
            steps: width * fours,
            block,
        }
    }

    fn block(&self, block: usize) -> &[u8] {
        &self.places.as_slice()[block * self.block..][..self.block]
    }

    fn blocks(&self) -> usize {
        self.places.as_slice().len() / self.block
    }
}

/// The rows of a window and of a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) rows: usize,
    /// Joined codes from a row of the input to the next.
    pub(crate) pitch: usize,
    /// Joined codes, and places of each kernel, in a row.
    pub(crate) steps: usize,
}

/// The sums of the pixels of a tile and of 16 kernels.
pub(crate) type Sums = [[u16; KERNELS]; PIXELS[0]];

/// [`SimdU8::join_fours`] for any instruction set.
pub(crate) fn portable_join(codes: &[u8], to: &mut [u16]) {
    for (codes, to) in codes.as_chunks::<CHANNELS>().0.iter().zip(to) {
        let number = codes
            .iter()
            .fold(0, |number, code| number << 2 | code & LARGEST);
        *to = u16::from(number) * ROW as u16;
    }
}

/// What a tile reads.
#[derive(Clone, Copy)]
struct Tile<'a> {
    weights: &'a FourWeights,
    joined: &'a [u16],
    /// Of its blocks, the first one.
    block: usize,
}

impl Unit<'_, '_> {
    /// All sums of the unit by looking up.
    #[inline(always)]
    pub(super) fn look_up_fours<S: SimdU8>(&mut self, simd: S, weights: &FourWeights) {
        let windows = *self.windows();
        let [height, width] = windows.size;
        assert!(windows.channels.is_multiple_of(CHANNELS));
        assert_eq!(weights.steps, width * windows.channels / CHANNELS);
        assert_eq!(weights.block, height * weights.steps * ROW);
        let (Some(&top), Some(&bottom)) = (self.tops().first(), self.tops().last()) else {
            return;
        };
        // From the first row on, and no further than the last window reaches, as `Unit::new` checked.
        let columns = windows.lead + (windows.per_row - 1) * windows.stride + width;
        let last = (bottom + height - 1) * windows.row_len() + columns * windows.channels;
        let codes = &self.input()[top * windows.row_len()..last];
        let mut joined = std::mem::take(self.joined());
        joined.resize(codes.len() / CHANNELS);
        simd.join_fours(codes, joined.as_mut_slice());
        let mut block = 0;
        while block < weights.blocks() {
            if weights.blocks() - block >= 2 {
                self.look_up_blocks::<S, 2>(simd, weights, &joined, block);
                block += 2;
            } else {
                self.look_up_blocks::<S, 1>(simd, weights, &joined, block);
                block += 1;
            }
        }
        *self.joined() = joined;
    }

    /// All pixels of `B` blocks.
    #[inline(always)]
    fn look_up_blocks<S: SimdU8, const B: usize>(
        &mut self,
        simd: S,
        weights: &FourWeights,
        joined: &[u16],
        block: usize,
    ) {
        let width = self.windows().per_row;
        let tiles = width.div_ceil(PIXELS[B - 1]);
        for row in 0..self.tops().len() {
            let mut column = 0;
            for tile in 0..tiles {
                // Tiles of nearly equal size.
                let pixels = (width - column).div_ceil(tiles - tile);
                let at = Position { row, column };
                let mut sums = [[[0; KERNELS]; PIXELS[0]]; B];
                let tile = Tile {
                    weights,
                    joined,
                    block,
                };
                match pixels {
                    1 => self.look_up_tile::<S, 1, B>(simd, tile, at, &mut sums),
                    2 => self.look_up_tile::<S, 2, B>(simd, tile, at, &mut sums),
                    3 => self.look_up_tile::<S, 3, B>(simd, tile, at, &mut sums),
                    4 => self.look_up_tile::<S, 4, B>(simd, tile, at, &mut sums),
                    5 => self.look_up_tile::<S, 5, B>(simd, tile, at, &mut sums),
                    6 => self.look_up_tile::<S, 6, B>(simd, tile, at, &mut sums),
                    7 => self.look_up_tile::<S, 7, B>(simd, tile, at, &mut sums),
                    _ => self.look_up_tile::<S, 8, B>(simd, tile, at, &mut sums),
                }
                for (b, sums) in sums.iter().enumerate() {
                    self.store_sums(simd, block + b, at, &sums[..pixels]);
                }
                column += pixels;
            }
        }
    }

    /// The sums of `P` pixels of one row from `first` on.
    #[inline(always)]
    fn look_up_tile<S: SimdU8, const P: usize, const B: usize>(
        &mut self,
        simd: S,
        Tile {
            weights,
            joined,
            block,
        }: Tile<'_>,
        first: Position,
        sums: &mut [Sums; B],
    ) {
        if P > PIXELS[B - 1] {
            return; // Never happens; the compiler sees that and leaves larger tiles out.
        }
        let windows = *self.windows();
        let [height, width] = windows.size;
        let fours = windows.channels / CHANNELS;
        let window = Window {
            rows: height,
            pitch: windows.row_pixels * fours,
            steps: weights.steps,
        };
        let row = self.tops()[first.row] - self.tops()[0];
        let start = row * window.pitch + (windows.lead + first.column * windows.stride) * fours;
        // Of a single pixel there is no next one, and the stride can be any number.
        let step = if P == 1 { 0 } else { windows.stride * fours };
        let x = &joined[start..];
        assert!((P - 1) * step + (height - 1) * window.pitch + width * fours <= x.len());
        let mut pixels = [x.as_ptr(); P];
        for (p, pixel) in pixels.iter_mut().enumerate() {
            *pixel = pixel.wrapping_add(p * step);
        }
        let mut places = [weights.block(block).as_ptr(); B];
        for (b, places) in places.iter_mut().enumerate().skip(1) {
            *places = weights.block(block + b).as_ptr();
        }
        // SAFETY: the last pixel's window ends inside the joined input, and blocks are as long as windows.
        unsafe { simd.look_up_fours(pixels, places, window, sums) };
    }

    /// Writes what becomes of the sums of a block and of some pixels of one row, from `first` on.
    #[inline(always)]
    fn store_sums<S: SimdU8>(
        &mut self,
        simd: S,
        block: usize,
        first: Position,
        sums: &[[u16; KERNELS]],
    ) {
        let (together, rest) = sums.as_chunks::<STORED>();
        let mut at = first;
        for sums in together {
            self.store_tile(simd, block, at, sums);
            at.column += STORED;
        }
        for sums in rest.as_chunks::<1>().0 {
            self.store_tile(simd, block, at, sums);
            at.column += 1;
        }
    }

    /// The same of `P` pixels.
    #[inline(always)]
    fn store_tile<S: SimdU8, const P: usize>(
        &mut self,
        simd: S,
        block: usize,
        first: Position,
        sums: &[[u16; KERNELS]; P],
    ) {
        let whole = (block + 1) * KERNELS <= self.weights.shape()[0];
        match KERNELS / S::LANES {
            4 if whole => self.store_vectors::<S, P, 4>(simd, block * 4, first, sums, 0),
            2 if whole => self.store_vectors::<S, P, 2>(simd, block * 2, first, sums, 0),
            vectors => {
                for v in 0..vectors {
                    let (vector, at) = (block * vectors + v, v * S::LANES);
                    if block * KERNELS + at < self.weights.shape()[0] {
                        self.store_vectors::<S, P, 1>(simd, vector, first, sums, at);
                    }
                }
            }
        }
    }

    /// The same of `V` vectors, whose sums are at `at` of each pixel's.
    #[inline(always)]
    fn store_vectors<S: SimdU8, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        vector: usize,
        first: Position,
        sums: &[[u16; KERNELS]; P],
        at: usize,
    ) {
        if V > 1 && S::LANES * V != KERNELS {
            return; // Never happens; the compiler sees that and leaves other numbers out.
        }
        let mut vectors = [[simd.widen(&sums[0][at..]); V]; P];
        for p in 0..P {
            for v in 0..V {
                vectors[p][v] = simd.widen(&sums[p][at + v * S::LANES..]);
            }
        }
        // SAFETY: the pixels are in one row of the output, which has the vectors' first kernels; that it has all of
        // them, where it must, was checked before.
        unsafe { self.store_in_row(simd, vector, first, &vectors) };
    }
}
