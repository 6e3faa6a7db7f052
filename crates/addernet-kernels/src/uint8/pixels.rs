//! The ordinary convolution of u8 pixels with i8 weights: the first layer of a network.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    output::{Output, Position},
    simd::{DotWindow, SimdU8, Task},
};
use crate::{
    ConvGeometry, KernelError,
    aligned::AlignedVec,
    error::{check_len, check_weights},
    geometry::checked_len,
};

use std::ops::Range;

#[cfg(test)]
mod tests;

/// Output channels of a block.
pub(crate) const LANES: usize = 16;
/// Input channels are filled up to a multiple of this.
pub const PIXEL_GROUP: usize = 4;
/// Kernel width of the tiles that slide.
const WIDTH: usize = 3;
/// Bytes of one group of one tap of a block.
const VECTOR: usize = LANES * PIXEL_GROUP;

/// One ordinary convolution's i8 weights, rearranged:
/// `[out_channels / 16][height][width][in_channels / 4][16][4]`, missing channels are zeros.
#[derive(Clone, Debug)]
pub struct PackedWeightsI8 {
    shape: [usize; 4],
    data: AlignedVec<i8>,
    /// The same in words, two pairs of input channels of each tap: `[2][16][2]` instead of `[16][4]`, the output
    /// channels in the order of [`WORDS`]. Instruction sets without dot products of bytes multiply these.
    words: AlignedVec<i16>,
}

/// Four output channels and the four that are 8 further, then the others: see the sums of AVX2.
const WORDS: [usize; LANES] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];

impl PackedWeightsI8 {
    /// Rearranges the weights of one layer; `shape` is OIHW.
    ///
    /// # Errors
    /// [`KernelError::ZeroDimension`], [`KernelError::SizeOverflow`] or [`KernelError::WrongLength`]
    /// when shape and weights do not describe a layer; [`KernelError::AccumulatorOverflow`] when an
    /// output has so many terms that a sum of products of 255 and −128 would not fit an i32.
    pub fn new(shape: [usize; 4], weights: &[i8]) -> Result<Self, KernelError> {
        const LIMIT: usize = i32::MAX as usize / (255 * 128);
        let [out_channels, in_channels, height, width] = shape;
        check_weights(shape, weights.len())?;
        let (taps, area) = (in_channels * height * width, height * width);
        if taps > LIMIT {
            return Err(KernelError::AccumulatorOverflow { taps, limit: LIMIT });
        }
        let (blocks, groups) = (
            out_channels.div_ceil(LANES),
            in_channels.div_ceil(PIXEL_GROUP),
        );
        let len = checked_len("packed weights", &[blocks, area, groups, VECTOR])?;
        let mut data = AlignedVec::zeros(len);
        let mut words = AlignedVec::zeros(len);
        let packed: &mut [i8] = data.as_mut_slice();
        for (o, kernel) in weights.chunks_exact(taps).enumerate() {
            let lane = (o / LANES) * area * groups * VECTOR + (o % LANES) * PIXEL_GROUP;
            for (c, plane) in kernel.chunks_exact(area).enumerate() {
                for (position, &weight) in plane.iter().enumerate() {
                    let at = (position * groups + c / PIXEL_GROUP) * VECTOR + c % PIXEL_GROUP;
                    packed[lane + at] = weight;
                }
            }
        }
        let vectors = packed.as_chunks::<VECTOR>().0.iter();
        let words_of: &mut [i16] = words.as_mut_slice();
        for (vector, words) in vectors.zip(words_of.as_chunks_mut::<VECTOR>().0) {
            for (place, words) in words.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let (pair, channel) = (place / LANES, WORDS[place % LANES]);
                let from = channel * PIXEL_GROUP + 2 * pair;
                *words = [vector[from].into(), vector[from + 1].into()];
            }
        }
        Ok(Self { shape, data, words })
    }

    /// OIHW shape of the layer.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }
}

/// Some output rows of the convolution of one padded image.
pub(super) struct Conv<'a, 'c> {
    geometry: &'a ConvGeometry,
    x: &'a [u8],
    weights: &'a PackedWeightsI8,
    rows: Range<usize>,
    output: Output<'a, 'c>,
}

impl<'a, 'c> Conv<'a, 'c> {
    /// Whether the output can be anything but sums.
    pub(super) fn scales<S: SimdU8>(geometry: &ConvGeometry) -> bool {
        S::DOT > 0 && geometry.out_channels().is_multiple_of(LANES)
    }

    /// The rows `rows` of a checked convolution.
    pub(super) fn new(
        geometry: &'a ConvGeometry,
        x: &'a [u8],
        weights: &'a PackedWeightsI8,
        rows: Range<usize>,
        output: Output<'a, 'c>,
    ) -> Self {
        Self {
            geometry,
            x,
            weights,
            rows,
            output,
        }
    }
}

/// Checks input and weights against the geometry.
pub(super) fn check(
    geometry: &ConvGeometry,
    x: &[u8],
    weights: &PackedWeightsI8,
) -> Result<(), KernelError> {
    check_len("images of one call", 1, geometry.batch())?;
    check_len("input", geometry.in_len(), x.len())?;
    check_len("padding", 0, geometry.padding()[0] + geometry.padding()[1])?;
    let channels = geometry.in_channels();
    let whole = channels.next_multiple_of(PIXEL_GROUP);
    check_len("input channels", whole, channels)?;
    let [out_channels, in_channels, height, width] = weights.shape;
    let filled_up = in_channels.next_multiple_of(PIXEL_GROUP);
    let packed = [out_channels, filled_up, height, width];
    if geometry.weight_shape() != packed {
        let expected = geometry.weight_shape();
        return Err(KernelError::WeightShape { expected, packed });
    }
    Ok(())
}

impl Task for Conv<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(mut self, simd: S) {
        let (width, channels) = (self.geometry.out_width(), self.geometry.out_channels());
        self.output.check(self.rows.len(), width, channels, LANES);
        for row in 0..self.rows.len() {
            for block in 0..channels.div_ceil(LANES) {
                if S::DOT > 0 {
                    self.row(simd, block, row);
                    continue;
                }
                let mut column = 0;
                while column < width {
                    let at = Position { row, column };
                    column += match width - column {
                        2.. if S::DOT_PAIR => self.pair(simd, block, at),
                        _ => self.scalar(block, at),
                    };
                }
            }
        }
    }
}

impl Conv<'_, '_> {
    /// A kernel's rows, and the groups of each of them.
    fn window(&self) -> [usize; 2] {
        let [height, width] = self.geometry.kernel();
        [height, width * self.geometry.in_channels() / PIXEL_GROUP]
    }

    /// Bytes from a row of the input to the next.
    fn row_len(&self) -> usize {
        self.geometry.in_width() * self.geometry.in_channels()
    }

    /// The input from the window of output pixel `at` on.
    fn input(&self, at: Position) -> &[u8] {
        let g = self.geometry;
        let (row, column) = (self.rows.start + at.row, at.column);
        let pixel = row * g.stride()[0] * g.in_width() + column * g.stride()[1];
        &self.x[pixel * g.in_channels()..]
    }

    /// The weights of one block.
    fn block(&self, block: usize) -> &[i8] {
        let [height, groups] = self.window();
        let len = height * groups * VECTOR;
        &self.weights.data.as_slice()[block * len..][..len]
    }

    /// The weights of one block as [`SimdU8::dot`] takes them.
    #[inline(always)]
    fn bytes<S: SimdU8>(&self, block: usize) -> *const u8 {
        let [height, groups] = self.window();
        let len = height * groups * VECTOR;
        match S::DOT_WORDS {
            true => self.weights.words.as_slice()[block * len..][..len]
                .as_ptr()
                .cast(),
            false => self.block(block).as_ptr().cast(),
        }
    }

    /// All pixels of a row in tiles of neighbouring ones.
    #[inline(always)]
    fn row<S: SimdU8>(&mut self, simd: S, block: usize, row: usize) {
        let first = Position { row, column: 0 };
        let (x, weights) = (self.input(first), self.bytes::<S>(block));
        let [height, groups] = self.window();
        let width = self.geometry.out_width();
        let rows = Rows {
            height,
            groups,
            row_len: self.row_len(),
            step: self.geometry.stride()[1].saturating_mul(self.geometry.in_channels()),
        };
        let last = (width - 1).saturating_mul(rows.step) + (height - 1) * rows.row_len;
        assert!(last + groups * PIXEL_GROUP <= x.len());
        let mut tile = Tile {
            rows,
            x: x.as_ptr(),
            weights,
            block,
            first,
        };
        while tile.first.column < width {
            let pixels = match width - tile.first.column {
                16.. if S::DOT >= 16 => self.vectors::<S, 16>(simd, &tile),
                8.. if S::DOT >= 8 => self.vectors::<S, 8>(simd, &tile),
                4.. => self.vectors::<S, 4>(simd, &tile),
                2.. => self.vectors::<S, 2>(simd, &tile),
                _ => self.vectors::<S, 1>(simd, &tile),
            };
            tile.x = tile.x.wrapping_add(pixels * tile.rows.step);
            tile.first.column += pixels;
        }
    }

    /// `P` pixels; returns their number.
    #[inline(always)]
    fn vectors<S: SimdU8, const P: usize>(&mut self, simd: S, tile: &Tile) -> usize {
        match LANES / S::LANES {
            2 => self.tile::<S, P, 2>(simd, tile),
            _ => self.tile::<S, P, 1>(simd, tile),
        }
        P
    }

    /// The same in `B` vectors of sums each.
    #[inline(always)]
    fn tile<S: SimdU8, const P: usize, const B: usize>(&mut self, simd: S, tile: &Tile) {
        if S::LANES * B != LANES || P > S::DOT {
            return; // Never happens; the compiler sees that and leaves the other tiles out.
        }
        let Tile {
            rows,
            x,
            weights,
            block,
            first,
        } = *tile;
        // SAFETY: the last group of the row's last pixel is inside the input, as `row` found, and the block's weights
        // are whole.
        let sums = unsafe {
            match (rows.groups, rows.step) {
                (WIDTH, PIXEL_GROUP) => slide::<S, P, B>(simd, x, weights, rows),
                _ => accumulate::<S, P, B>(simd, x, weights, rows),
            }
        };
        let (width, channels) = (self.geometry.out_width(), self.geometry.out_channels());
        let to = self.output.offset(first, width, channels);
        let step = self.output.step(channels);
        let position = |p| Position {
            row: first.row,
            column: first.column + p,
        };
        let channels = [channels, block * LANES];
        // SAFETY: `run` checked the output, and the pixels are in it.
        unsafe {
            let offset = |p| to + p * step;
            self.output
                .store(simd, channels, |_| &[0; LANES], offset, position, &sums);
        }
    }

    /// One pixel, in arrays that the compiler vectorises; returns 1.
    #[inline(always)]
    fn scalar(&mut self, block: usize, at: Position) -> usize {
        let (x, weights) = (self.input(at), self.block(block));
        let [_, groups] = self.window();
        let row_len = self.row_len();
        let mut sums = [0i32; LANES];
        for (row, weights) in weights.chunks_exact(groups * VECTOR).enumerate() {
            let x = x[row * row_len..].as_chunks::<PIXEL_GROUP>().0;
            for (x, weights) in x.iter().zip(weights.as_chunks::<VECTOR>().0) {
                let weights = weights.as_chunks::<PIXEL_GROUP>().0;
                for (sum, w) in sums.iter_mut().zip(weights) {
                    for (&x, &w) in x.iter().zip(w) {
                        *sum += i32::from(x) * i32::from(w);
                    }
                }
            }
        }
        self.write(block, at, &sums);
        1
    }

    /// Two neighbouring pixels; returns 2.
    #[inline(always)]
    fn pair<S: SimdU8>(&mut self, simd: S, block: usize, at: Position) -> usize {
        let (x, weights) = (self.input(at), self.block(block));
        let [height, groups] = self.window();
        let window = DotWindow {
            height,
            groups,
            row_len: self.row_len(),
        };
        let step = self.geometry.stride()[1].saturating_mul(self.geometry.in_channels());
        let last = step + (height - 1) * window.row_len + groups * PIXEL_GROUP;
        assert!(last <= x.len() && weights.len() == height * groups * VECTOR);
        let x = [x.as_ptr(), x[step..].as_ptr()];
        // SAFETY: the second window's last group is inside the input, and the weights are whole.
        let sums = unsafe { simd.dot_pair(x, window, weights.as_ptr()) };
        for (p, sums) in sums.iter().enumerate() {
            let column = at.column + p;
            self.write(block, Position { column, ..at }, sums);
        }
        2
    }

    /// Stores a pixel's sums of one block; without dot products, there is no other output.
    #[inline(always)]
    fn write(&mut self, block: usize, at: Position, sums: &[i32; LANES]) {
        let (width, channels) = (self.geometry.out_width(), self.geometry.out_channels());
        let first = block * LANES;
        let lanes = LANES.min(channels - first);
        let offset = self.output.offset(at, width, channels) + first;
        if let Output::Sums(y) = &mut self.output {
            y[offset..][..lanes].copy_from_slice(&sums[..lanes]);
        }
    }
}

/// Some neighbouring pixels of a block.
#[derive(Clone, Copy)]
struct Tile {
    rows: Rows,
    /// The first pixel's window.
    x: *const u8,
    weights: *const u8,
    block: usize,
    first: Position,
}

/// The rows of a window.
#[derive(Clone, Copy)]
struct Rows {
    height: usize,
    /// Groups of inputs, and vectors of weights, in a row.
    groups: usize,
    /// Bytes from a row of the input to the next.
    row_len: usize,
    /// Bytes from a window to the next.
    step: usize,
}

/// Bytes of one group of one tap of a block as [`SimdU8::dot`] takes them.
const fn vector_bytes<S: SimdU8>() -> usize {
    if S::DOT_WORDS { 2 * VECTOR } else { VECTOR }
}

/// The sums of `P` neighbouring pixels.
///
/// # Safety
/// `x` must be valid for reads of the windows, `w` of a block.
#[inline(always)]
unsafe fn accumulate<S: SimdU8, const P: usize, const B: usize>(
    simd: S,
    mut x: *const u8,
    mut w: *const u8,
    rows: Rows,
) -> [[S::Sums; B]; P] {
    // SAFETY: without the max identity's part, nothing is read.
    let mut sums = [[unsafe { simd.start(&0) }; B]; P];
    for _ in 0..rows.height {
        for group in 0..rows.groups {
            for p in 0..P {
                let x = x.wrapping_add(p * rows.step + group * PIXEL_GROUP);
                for b in 0..B {
                    let w = w.wrapping_add(b * vector_bytes::<S>() / B);
                    // SAFETY: the group is inside the row, which the caller promises.
                    sums[p][b] = unsafe { simd.dot(sums[p][b], x, w) };
                }
            }
            w = w.wrapping_add(vector_bytes::<S>());
        }
        x = x.wrapping_add(rows.row_len);
    }
    sums
}

/// The same for rows of [`WIDTH`] groups whose windows are one group apart, as in most first layers: the compiler
/// sees which of their groups are the same and reads them once.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn slide<S: SimdU8, const P: usize, const B: usize>(
    simd: S,
    mut x: *const u8,
    mut w: *const u8,
    rows: Rows,
) -> [[S::Sums; B]; P] {
    // SAFETY: without the max identity's part, nothing is read.
    let mut sums = [[unsafe { simd.start(&0) }; B]; P];
    for _ in 0..rows.height {
        for p in 0..P {
            let w = simd.reread(w);
            for v in 0..WIDTH {
                let (x, w) = (
                    x.wrapping_add((p + v) * PIXEL_GROUP),
                    w.wrapping_add(v * vector_bytes::<S>()),
                );
                for b in 0..B {
                    let w = w.wrapping_add(b * vector_bytes::<S>() / B);
                    // SAFETY: the group is inside the row, which the caller promises.
                    sums[p][b] = unsafe { simd.dot(sums[p][b], x, w) };
                }
            }
        }
        x = x.wrapping_add(rows.row_len);
        w = w.wrapping_add(WIDTH * vector_bytes::<S>());
    }
    sums
}
