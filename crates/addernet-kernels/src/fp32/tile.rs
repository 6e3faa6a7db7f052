//! The tile kernel: a few output pixels by a few vectors of output channels, accumulated in
//! registers.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    pack::PackedWeightsF32,
    simd::{SimdF32, Task},
};
use crate::{ConvGeometry, reference::CHUNK_TERMS};
use std::hint::black_box;

/// No instruction set has longer vectors.
const MAX_LANES: usize = 16;

/// A run of terms that are neighbours both in a row of the input and in the packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// First input element, counted from the window's first.
    x: usize,
    /// First term, counted from the kernel's first.
    term: usize,
    /// Number of terms.
    len: usize,
}

/// The terms of one output as runs, grouped into the partial sums that the reference prescribes.
#[derive(Debug)]
pub(crate) struct Plan {
    segments: Vec<Segment>,
    /// Where each partial sum's segments end in `segments`.
    chunk_ends: Vec<usize>,
    /// Input elements from a window's first to its last, both included.
    window: usize,
}

impl Plan {
    /// `row_stride` is the distance between two rows of the (padded) input in elements.
    pub(crate) fn new(geometry: &ConvGeometry, row_stride: usize) -> Self {
        let [height, width] = geometry.kernel();
        // Without dilation the taps of a kernel row are neighbours in NHWC.
        let row_terms = width * geometry.in_channels();
        let (mut segments, mut chunk_ends) = (Vec::new(), Vec::new());
        let mut term = 0;
        while term < height * row_terms {
            let (row, column) = (term / row_terms, term % row_terms);
            let len = (row_terms - column).min(CHUNK_TERMS - term % CHUNK_TERMS);
            segments.push(Segment {
                x: row * row_stride + column,
                term,
                len,
            });
            term += len;
            if term % CHUNK_TERMS == 0 || term == height * row_terms {
                chunk_ends.push(segments.len());
            }
        }
        Self {
            segments,
            chunk_ends,
            window: (height - 1) * row_stride + row_terms,
        }
    }
}

/// Some output pixels of one convolution, all their channels: the unit of work of one thread.
pub(crate) struct Unit<'a> {
    plan: &'a Plan,
    weights: &'a PackedWeightsF32,
    x: &'a [f32],
    windows: &'a [usize],
    y: &'a mut [f32],
}

impl<'a> Unit<'a> {
    /// `windows` are the positions in `x` of each output pixel's window; `y` is
    /// `[windows.len()][out_channels]`.
    ///
    /// # Panics
    /// If a window reaches beyond `x` or `y` is of another length, which only a mistake in this
    /// crate can cause.
    pub(crate) fn new(
        plan: &'a Plan,
        weights: &'a PackedWeightsF32,
        x: &'a [f32],
        windows: &'a [usize],
        y: &'a mut [f32],
    ) -> Self {
        assert_eq!(y.len(), windows.len() * weights.shape()[0]);
        let last = plan
            .segments
            .last()
            .map_or(0, |segment| segment.term + segment.len);
        assert!(last <= weights.taps());
        assert!(
            windows
                .iter()
                .all(|&start| start <= x.len() && x.len() - start >= plan.window)
        );
        Self {
            plan,
            weights,
            x,
            windows,
            y,
        }
    }
}

impl Task for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdF32>(mut self, simd: S) {
        assert!(self.weights.lanes() == S::LANES && S::LANES <= MAX_LANES);
        let one = simd.splat(black_box(1.0));
        let blocks = self.weights.blocks();
        let mut block = 0;
        while block < blocks {
            if S::TILE[1] >= 2 && blocks - block >= 2 {
                self.blocks::<S, 2>(simd, one, block);
                block += 2;
            } else {
                self.blocks::<S, 1>(simd, one, block);
                block += 1;
            }
        }
    }
}

impl Unit<'_> {
    /// All pixels of `B` blocks of output channels. One partial sum of all pixels comes before the
    /// next: its weights, at most `B · CHUNK_TERMS` vectors, then stay in the first-level cache.
    #[inline(always)]
    fn blocks<S: SimdF32, const B: usize>(&mut self, simd: S, one: S::V, block: usize) {
        // A narrower tile may be longer for the same number of accumulators, but not worth another
        // eight functions.
        let max_pixels = S::TILE[0];
        let tiles = self.windows.len().div_ceil(max_pixels);
        let mut chunk_start = 0;
        for (chunk, &chunk_end) in self.plan.chunk_ends.iter().enumerate() {
            let chunk_segments = chunk_start..chunk_end;
            chunk_start = chunk_end;
            let mut pixel = 0;
            for tile in 0..tiles {
                // Tiles of nearly equal size: 49 pixels are 7 tiles of 7, not 6 of 8 and 1 of 1.
                let pixels = (self.windows.len() - pixel).div_ceil(tiles - tile);
                let at = Tile {
                    block,
                    pixel,
                    segments: chunk_segments.clone(),
                    first: chunk == 0,
                };
                match pixels {
                    1 => self.tile::<S, 1, B>(simd, one, at),
                    2 => self.tile::<S, 2, B>(simd, one, at),
                    3 => self.tile::<S, 3, B>(simd, one, at),
                    4 => self.tile::<S, 4, B>(simd, one, at),
                    5 => self.tile::<S, 5, B>(simd, one, at),
                    6 => self.tile::<S, 6, B>(simd, one, at),
                    7 => self.tile::<S, 7, B>(simd, one, at),
                    _ => self.tile::<S, 8, B>(simd, one, at),
                }
                pixel += pixels;
            }
        }
    }

    #[inline(always)]
    fn tile<S: SimdF32, const P: usize, const B: usize>(&mut self, simd: S, one: S::V, at: Tile) {
        if P > S::TILE[0] {
            return; // Never happens; the compiler sees that and leaves larger tiles out.
        }
        let windows = &self.windows[at.pixel..at.pixel + P];
        let mut x = [self.x.as_ptr(); P];
        for p in 0..P {
            // SAFETY: `Unit::new` checked that every window starts inside `x`.
            x[p] = unsafe { x[p].add(windows[p]) };
        }
        let mut w = [self.weights.block(at.block).as_ptr(); B];
        for b in 1..B {
            w[b] = self.weights.block(at.block + b).as_ptr();
        }
        let segments = &self.plan.segments[at.segments];
        // SAFETY: `Unit::new` checked that every window lies inside `x`, and that the plan's terms
        // lie inside a block.
        let partial = unsafe { accumulate::<S, P, B>(simd, one, x, w, segments) };

        let out_channels = self.weights.shape()[0];
        let first = at.block * S::LANES;
        let y = &mut self.y[at.pixel * out_channels + first..(at.pixel + P) * out_channels];
        if first + B * S::LANES <= out_channels {
            // SAFETY: `y` reaches from the tile's first channel to the end of its last pixel, and
            // every vector's channels exist.
            unsafe { subtract_vectors(simd, y.as_mut_ptr(), out_channels, &partial, at.first) };
        } else {
            let mut lanes = [[[0.0; MAX_LANES]; B]; P];
            for p in 0..P {
                for b in 0..B {
                    // SAFETY: no vector has more than MAX_LANES lanes.
                    unsafe { simd.store(lanes[p][b].as_mut_ptr(), partial[p][b]) };
                }
            }
            for (y, lanes) in y.chunks_mut(out_channels).zip(&lanes) {
                for (b, lanes) in lanes.iter().enumerate() {
                    let channels = S::LANES.min(out_channels - first - b * S::LANES);
                    subtract_lanes(&mut y[b * S::LANES..][..channels], lanes, at.first);
                }
            }
        }
    }
}

/// Which tile, and which partial sum.
struct Tile {
    block: usize,
    pixel: usize,
    segments: std::ops::Range<usize>,
    first: bool,
}

/// One partial sum of `P` pixels by `B` vectors.
///
/// # Safety
/// Every segment must lie inside the memory that each `x` points to, and its terms times the lanes
/// inside that of each `w`.
#[inline(always)]
unsafe fn accumulate<S: SimdF32, const P: usize, const B: usize>(
    simd: S,
    one: S::V,
    x: [*const f32; P],
    w: [*const f32; B],
    segments: &[Segment],
) -> [[S::V; B]; P] {
    let mut acc = [[simd.splat(0.0); B]; P];
    for segment in segments {
        let (mut x, mut w) = (x, w);
        for p in 0..P {
            // SAFETY: the caller promises that the segment lies inside each window.
            x[p] = unsafe { x[p].add(segment.x) };
        }
        for b in 0..B {
            // SAFETY: the caller promises that the segment's terms lie inside each block.
            w[b] = unsafe { w[b].add(segment.term * S::LANES) };
        }
        for term in 0..segment.len {
            let mut weights = [one; B];
            for b in 0..B {
                // SAFETY: `term` is inside the segment, whose vectors the caller promises.
                weights[b] = unsafe { simd.load(w[b].add(term * S::LANES)) };
            }
            for p in 0..P {
                // SAFETY: `term` is inside the segment, whose inputs the caller promises.
                let value = simd.splat(unsafe { *x[p].add(term) });
                for b in 0..B {
                    acc[p][b] = simd.add_abs_diff(acc[p][b], value, weights[b], one);
                }
            }
        }
    }
    acc
}

/// `y ← y − partial` for a tile of whole vectors, where `y` counts as 0 if this is the `first`
/// partial sum.
///
/// # Safety
/// `y` must be valid for the tile's vectors: pixels `stride` apart, a pixel's vectors next to each
/// other.
#[inline(always)]
unsafe fn subtract_vectors<S: SimdF32, const P: usize, const B: usize>(
    simd: S,
    y: *mut f32,
    stride: usize,
    partial: &[[S::V; B]; P],
    first: bool,
) {
    // Two loops, so that both are unrolled and the sums stay in their registers.
    if first {
        for p in 0..P {
            for b in 0..B {
                // SAFETY: the caller promises the tile's vectors.
                unsafe {
                    let y = y.add(p * stride + b * S::LANES);
                    simd.store(y, simd.sub(simd.splat(0.0), partial[p][b]));
                }
            }
        }
    } else {
        for p in 0..P {
            for b in 0..B {
                // SAFETY: the caller promises the tile's vectors.
                unsafe {
                    let y = y.add(p * stride + b * S::LANES);
                    simd.store(y, simd.sub(simd.load(y), partial[p][b]));
                }
            }
        }
    }
}

/// The same for the part of a vector that the last output channels fill. Not inlined, to keep the
/// tiles' code short.
#[inline(never)]
fn subtract_lanes(y: &mut [f32], partial: &[f32; MAX_LANES], first: bool) {
    for (y, partial) in y.iter_mut().zip(partial) {
        *y = if first { 0.0 } else { *y } - partial;
    }
}
