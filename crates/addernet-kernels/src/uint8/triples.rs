//! Sums of codes of 2 bits, three terms at a time: Σ|x − w| over three neighbouring columns of a channel is looked
//! up in a table of 64 bytes, which one register holds. Vectors go across pixels here: an instruction looks up
//! many places of one table, and a table belongs to three weights.
#![allow(unsafe_code)]
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "no other instruction set looks sums up so far")
)]

use super::{box_sum::Windows, output::Position, simd::SimdU8, tile::Unit};
use crate::aligned::AlignedVec;
use std::mem::MaybeUninit;

/// Output channels that are computed together.
pub(crate) const KERNELS: usize = 16;
/// Pixels of a vector.
pub(crate) const PIXELS: usize = 64;
/// Vectors of pixels of the largest tile.
pub(crate) const VECTORS: usize = 4;
/// Channels, and pixels, that change places together.
pub(crate) const BLOCK: usize = 16;
/// Columns of a kernel.
pub(crate) const WIDTH: usize = 3;
/// The largest code.
pub(crate) const LARGEST: u8 = 3;
/// Bytes of a table.
const TABLE: u16 = 64;
/// Planes are used again and again, and should leave room in a first-level cache.
const PLANES: usize = 24 * 1024;

/// Entry 16·x₁ + 4·x₂ + x₃ of table 16·w₁ + 4·w₂ + w₃ is |x₁ − w₁| + |x₂ − w₂| + |x₃ − w₃|.
#[repr(align(64))]
pub(crate) struct Tables(pub(crate) [[u8; TABLE as usize]; 64]);

pub(crate) static TABLES: Tables = Tables(tables());

const fn tables() -> [[u8; TABLE as usize]; 64] {
    let mut tables = [[0; TABLE as usize]; 64];
    let mut w = 0;
    while w < 64 {
        let mut x = 0;
        while x < 64 {
            let mut shift = 0;
            while shift < 6 {
                let term = (x as u8 >> shift & LARGEST).abs_diff(w as u8 >> shift & LARGEST);
                tables[w][x] += term;
                shift += 2;
            }
            x += 1;
        }
        w += 1;
    }
    tables
}

/// Weights in threes, `[out_channels / 16][height][in_channels][16]`.
#[derive(Clone, Debug)]
pub(crate) struct TripleWeights {
    /// Where each three's table begins in [`TABLES`].
    tables: AlignedVec<u16>,
    /// Threes of a kernel.
    triples: usize,
}

impl TripleWeights {
    /// Whether sums of kernels of this (OIHW) shape and codes up to `largest` can be looked up: they are three
    /// columns wide, and their sums fit 16 bits.
    pub(crate) fn fit(shape: [usize; 4], largest: u8) -> bool {
        let [_, in_channels, height, width] = shape;
        let most = usize::from(u16::MAX) / (WIDTH * usize::from(LARGEST));
        let triples = in_channels.saturating_mul(height);
        width == WIDTH && largest <= LARGEST && triples <= most
    }

    /// Packs OIHW weights that [`fit`](Self::fit). Missing channels, on either side, are zeros.
    pub(crate) fn new(shape: [usize; 4], weights: &[u8], channels: usize) -> Self {
        let [out_channels, in_channels, height, width] = shape;
        let triples = height * channels;
        let mut tables = AlignedVec::zeros(out_channels.next_multiple_of(KERNELS) * triples);
        for (o, kernel) in weights
            .chunks_exact(in_channels * height * width)
            .enumerate()
        {
            let block = o / KERNELS * triples * KERNELS + o % KERNELS;
            for (at, three) in kernel.as_chunks::<WIDTH>().0.iter().enumerate() {
                let (channel, row) = (at / height, at % height);
                let code = three.iter().fold(0, |code, &w| code << 2 | u16::from(w));
                let at = block + (row * channels + channel) * KERNELS;
                tables.as_mut_slice()[at] = code * TABLE;
            }
        }
        Self { tables, triples }
    }

    /// The tables of a block of 16 kernels.
    fn block(&self, block: usize) -> &[u16] {
        let len = self.triples * KERNELS;
        &self.tables.as_slice()[block * len..(block + 1) * len]
    }

    fn blocks(&self) -> usize {
        self.tables.as_slice().len() / (self.triples * KERNELS)
    }
}

/// What a tile reads.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// Where the tables of 16 kernels begin in [`TABLES`], 16 for each offset.
    pub(crate) tables: &'a [u16],
    /// The threes of the tile's first pixel are at each of the `offsets` from here.
    pub(crate) x: *const u8,
    pub(crate) offsets: &'a [usize],
}

/// Sums of 16 bits of a tile, `V` a vector: of each vector of pixels and each kernel those of even pixels plus 256 times
/// those of odd ones, modulo 2¹⁶, which is what words of two bytes add up to; then those of odd ones. What a smaller
/// tile leaves out is never written.
pub(crate) type Wide<V> = [MaybeUninit<V>; 2 * KERNELS * VECTORS];

/// Sums of one vector of pixels: of each pixel those of 16 kernels.
pub(crate) type Sums<V> = [[V; 1]; PIXELS];

/// So many looked-up sums can be added up in a byte.
pub(crate) const PER_BYTE: usize = u8::MAX as usize / (WIDTH * LARGEST as usize);

/// The threes of some rows of the input in the order in which windows need them: a plane for each channel (and
/// remainder of the row by the stride) holds a byte for each place of a window, row by row as the output has
/// them, so that a vector goes on in the next row.
#[derive(Debug)]
pub(crate) struct Planes {
    planes: AlignedVec<u8>,
    /// Threes in the order of the input, `[pixel][channel]`.
    joined: AlignedVec<u8>,
    /// Where the threes of each row and channel of a kernel begin.
    offsets: Vec<usize>,
}

impl Planes {
    pub(crate) const fn new() -> Self {
        Self {
            planes: AlignedVec::new(),
            joined: AlignedVec::new(),
            offsets: Vec::new(),
        }
    }

    /// Fills the planes for the windows of `run`.
    #[inline(always)]
    fn fill<S: SimdU8>(&mut self, simd: S, x: &[u8], run: Run, windows: &Windows) {
        let Windows {
            size: [height, _],
            stride,
            per_row,
            channels,
            ..
        } = *windows;
        // Where there is no next window, the stride can be any number.
        let stride = if per_row == 1 { 1 } else { stride };
        let Run { top, step, rows } = run;
        let remainders = step.min(height);
        let slots = rows + (height - 1) / step;
        // The last bytes of a plane are written in whole blocks.
        let pitch = slots * per_row + BLOCK;
        self.planes
            .resize(channels * remainders * pitch + PIXELS * VECTORS);
        self.offsets.clear();
        for u in 0..height {
            let row = u % step * pitch + u / step * per_row;
            let planes = (0..channels).map(|channel| channel * remainders * pitch);
            self.offsets.extend(planes.map(|plane| plane + row));
        }
        // Threes at the pixels that a stride of 2 leaves out cost less than leaving them out would.
        let together = stride <= 2;
        let distance = if together {
            stride * channels
        } else {
            channels
        };
        self.joined.resize(PIXELS * distance + PIXELS);
        let last = top + (rows - 1) * step + height - 1;
        for remainder in 0..remainders {
            let count = (0..slots).take_while(|slot| top + slot * step + remainder <= last);
            let places = count.count() * per_row;
            let (mut slot, mut column) = (0, 0);
            for first in (0..places).step_by(PIXELS) {
                let end = places.min(first + PIXELS);
                let mut place = first;
                while place < end {
                    let row = top + slot * step + remainder;
                    let count = if together {
                        (per_row - column).min(end - place)
                    } else {
                        1
                    };
                    let start =
                        row * windows.row_len() + (windows.lead + column * stride) * channels;
                    let len = ((count - 1) * stride + 1) * channels;
                    let codes = &x[start..][..len + (WIDTH - 1) * channels];
                    let to = &mut self.joined.as_mut_slice()[(place - first) * distance..];
                    assert!(to.len() >= len + PIXELS);
                    // SAFETY: the codes are those of the threes, and behind the place of these is room for a vector.
                    unsafe { simd.join(codes.as_ptr(), channels, len, to.as_mut_ptr()) };
                    place += count;
                    column += count;
                    if column == per_row {
                        (slot, column) = (slot + 1, 0);
                    }
                }
                for channel in (0..channels).step_by(BLOCK) {
                    let rows = (channels - channel).min(BLOCK);
                    let pixels = (end - first).next_multiple_of(BLOCK);
                    let from = &self.joined.as_slice()[channel..];
                    let plane = (channel * remainders + remainder) * pitch + first;
                    let to = &mut self.planes.as_mut_slice()[plane..];
                    assert!(from.len() >= (PIXELS - 1) * distance + BLOCK);
                    assert!(to.len() >= (rows - 1) * remainders * pitch + pixels);
                    // SAFETY: all places have 16 bytes to read, and the rows room for so many.
                    unsafe {
                        let (from, to) = (from.as_ptr(), to.as_mut_ptr());
                        simd.transpose(from, distance, to, remainders * pitch, [rows, pixels]);
                    }
                }
            }
        }
    }
}

/// Rows of windows that start at input rows equally far apart.
#[derive(Clone, Copy)]
struct Run {
    top: usize,
    step: usize,
    rows: usize,
}

impl Unit<'_, '_> {
    /// All sums of the unit by looking up.
    #[inline(always)]
    pub(super) fn look_up<S: SimdU8>(&mut self, simd: S, weights: &TripleWeights) {
        assert_eq!(S::LANES, KERNELS);
        let windows = *self.windows();
        let [height, width] = windows.size;
        assert_eq!(width, WIDTH);
        assert_eq!(weights.triples, height * windows.channels);
        // Room in the cache matters less than full vectors.
        let full = (PIXELS * VECTORS / windows.per_row).max(4);
        let rows = (PLANES / (windows.channels * windows.per_row)).saturating_sub(height - 1);
        let most = rows.max(full);
        let mut done = 0;
        while done < self.tops().len() {
            let tops = &self.tops()[done..];
            let step = tops.get(1).map_or(1, |next| next - tops[0]).max(1);
            let equal = tops.windows(2).take_while(|t| t[1] - t[0] == step).count() + 1;
            // In runs of nearly equal length.
            let rows = equal.div_ceil(equal.div_ceil(most));
            let top = tops[0];
            let run = Run { top, step, rows };
            self.look_up_run(simd, weights, run, done);
            done += run.rows;
        }
    }

    /// The sums of some rows of windows, of which `first_row` is the first.
    #[inline(always)]
    fn look_up_run<S: SimdU8>(
        &mut self,
        simd: S,
        weights: &TripleWeights,
        run: Run,
        first_row: usize,
    ) {
        let windows = *self.windows();
        let x = self.input();
        self.planes().fill(simd, x, run, &windows);
        let pixels = run.rows * windows.per_row;
        let zero = 0;
        // SAFETY: a number is there.
        let zero = unsafe { simd.start(&zero) };
        let mut wide = [MaybeUninit::uninit(); 2 * KERNELS * VECTORS];
        let mut sums = [[zero]; PIXELS];
        for block in 0..weights.blocks() {
            let mut at = Position {
                row: first_row,
                column: 0,
            };
            let mut pixel = 0;
            while pixel < pixels {
                // Tiles of nearly equal size: the smallest take almost twice as long for a pixel.
                let rest = (pixels - pixel).div_ceil(PIXELS);
                let vectors = rest.div_ceil(rest.div_ceil(VECTORS));
                let planes = self.planes();
                let tile = Tile {
                    tables: weights.block(block),
                    x: planes.planes.as_slice()[pixel..].as_ptr(),
                    offsets: &planes.offsets,
                };
                assert_eq!(tile.tables.len(), tile.offsets.len() * KERNELS);
                // SAFETY: planes hold `pixels` bytes from each offset on, and those of the largest tile
                // follow the last one; there are 16 tables for each offset.
                unsafe { simd.look_up(tile, vectors, &mut wide) };
                for vector in 0..vectors {
                    // SAFETY: the tile had so many vectors.
                    unsafe { simd.in_order(&wide, vector, &mut sums) };
                    let count = (pixels - pixel).min(PIXELS);
                    self.store_pixels(simd, block, &mut at, &sums[..count]);
                    pixel += count;
                }
            }
        }
    }

    /// Writes what becomes of the sums of some pixels from `at` on, which moves on.
    #[inline(always)]
    fn store_pixels<S: SimdU8>(
        &mut self,
        simd: S,
        block: usize,
        at: &mut Position,
        sums: &[[S::Sums; 1]],
    ) {
        let width = self.windows().per_row;
        let mut rest = sums;
        while !rest.is_empty() {
            let row = rest.len().min(width - at.column);
            let count = match row {
                // SAFETY: the pixels are in one row of the output, which `run` checked.
                16.. => unsafe { self.store_first::<S, 16>(simd, block, *at, rest) },
                // SAFETY: as above.
                8.. => unsafe { self.store_first::<S, 8>(simd, block, *at, rest) },
                // SAFETY: as above.
                _ => unsafe { self.store_first::<S, 1>(simd, block, *at, rest) },
            };
            at.column += count;
            rest = &rest[count..];
            if at.column == width {
                *at = Position {
                    row: at.row + 1,
                    column: 0,
                };
            }
        }
    }

    /// Writes what becomes of the first `P` of some pixels, and returns their number.
    ///
    /// # Safety
    /// As [`store_in_row`](Self::store_in_row).
    #[inline(always)]
    unsafe fn store_first<S: SimdU8, const P: usize>(
        &mut self,
        simd: S,
        block: usize,
        at: Position,
        sums: &[[S::Sums; 1]],
    ) -> usize {
        if let Some(sums) = sums.first_chunk::<P>() {
            // SAFETY: the caller promises the pixels.
            unsafe { self.store_in_row(simd, block, at, sums) };
        }
        P
    }
}
