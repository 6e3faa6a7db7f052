//! The whole convolution: rows are grouped into units, padded where needed, and shared among
//! threads.

use super::{
    pack::PackedWeightsF32,
    simd::SimdF32,
    tile::{Plan, Unit},
};
use crate::{
    ConvGeometry, KernelError,
    aligned::AlignedVec,
    error::check_len,
    rows::{self, UnitSize, pieces},
};
use std::cell::RefCell;

/// The input of a unit is half of a small second-level cache.
const UNIT: UnitSize = UnitSize {
    input: 32 * 1024,
    min_terms: 256 * 1024,
};

/// A thread's buffers, kept between calls.
struct Scratch {
    rows: AlignedVec<f32>,
    windows: Vec<usize>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { rows: AlignedVec::new(), windows: Vec::new() }) };
}

pub(crate) fn forward<S: SimdF32>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[f32],
    weights: &PackedWeightsF32,
    y: &mut [f32],
) -> Result<(), KernelError> {
    check_len("input", geometry.in_len(), x.len())?;
    check_len("output", geometry.out_len(), y.len())?;
    if weights.shape() != geometry.weight_shape() {
        return Err(KernelError::WeightShape {
            expected: geometry.weight_shape(),
            packed: weights.shape(),
        });
    }
    if weights.lanes() != S::LANES {
        return Err(KernelError::PackedLayout {
            packed_by: weights.packed_by(),
            kernel: S::NAME,
        });
    }

    let layer = Layer::new(geometry, x, weights);
    let threads = rayon::current_num_threads();
    let unit_rows = UNIT.rows(geometry, layer.row_len, threads);
    layer.run_units(simd, y, unit_rows, threads);
    Ok(())
}

/// One call's constants.
pub(super) struct Layer<'a> {
    geometry: &'a ConvGeometry,
    x: &'a [f32],
    weights: &'a PackedWeightsF32,
    plan: Plan,
    /// Elements in a row of the padded input.
    row_len: usize,
}

impl<'a> Layer<'a> {
    pub(super) fn new(
        geometry: &'a ConvGeometry,
        x: &'a [f32],
        weights: &'a PackedWeightsF32,
    ) -> Self {
        let row_len = (geometry.in_width() + 2 * geometry.padding()[1]) * geometry.in_channels();
        Self {
            geometry,
            x,
            weights,
            plan: Plan::new(geometry, row_len),
            row_len,
        }
    }

    /// Computes the whole output, `unit_rows` rows at a time.
    pub(super) fn run_units<S: SimdF32>(
        &self,
        simd: S,
        y: &mut [f32],
        unit_rows: usize,
        threads: usize,
    ) {
        rows::run_units(self.geometry, y, unit_rows, threads, |first_row, y| {
            self.run(simd, first_row, y);
        });
    }

    /// Computes the output rows from `first_row` on that `y` has room for.
    fn run<S: SimdF32>(&self, simd: S, first_row: usize, y: &mut [f32]) {
        let row_outputs = self.geometry.out_width() * self.geometry.out_channels();
        let rows = first_row..first_row + y.len() / row_outputs;
        SCRATCH.with_borrow_mut(
            |Scratch {
                 rows: padded,
                 windows,
             }| {
                windows.clear();
                let x = if self.geometry.padding() == [0, 0] {
                    self.find_windows(rows, windows);
                    self.x
                } else {
                    self.pad_rows(rows, padded, windows);
                    padded.as_slice()
                };
                simd.vectorize(Unit::new(&self.plan, self.weights, x, windows, y));
            },
        );
    }

    /// The windows of some output rows in the input itself.
    fn find_windows(&self, rows: std::ops::Range<usize>, windows: &mut Vec<usize>) {
        let g = self.geometry;
        for row in rows {
            let (image, row) = (row / g.out_height(), row % g.out_height());
            self.push_row(image * g.in_height() + row * g.stride()[0], windows);
        }
    }

    /// Copies the input rows that some output rows need, with their zero padding, and lists the
    /// windows in the copy.
    fn pad_rows(
        &self,
        rows: std::ops::Range<usize>,
        padded: &mut AlignedVec<f32>,
        windows: &mut Vec<usize>,
    ) {
        let g = self.geometry;
        let (stride, kernel_height) = (g.stride()[0], g.kernel()[0]);
        let mut needed = 0;
        for piece in pieces(rows.clone(), g.out_height()) {
            needed += (piece.rows.len() - 1) * stride + kernel_height;
        }
        padded.resize(needed * self.row_len);
        let mut free = padded.as_mut_slice();
        let mut base = 0;
        for piece in pieces(rows, g.out_height()) {
            let height = (piece.rows.len() - 1) * stride + kernel_height;
            let top = piece.rows.start * stride;
            for (u, row) in free.chunks_exact_mut(self.row_len).take(height).enumerate() {
                self.pad_row(piece.image, top + u, row);
            }
            free = &mut std::mem::take(&mut free)[height * self.row_len..];
            for row in 0..piece.rows.len() {
                self.push_row(base + row * stride, windows);
            }
            base += height;
        }
    }

    /// Fills one row of the padded input; `padded_row` is counted from the first padding row.
    fn pad_row(&self, image: usize, padded_row: usize, to: &mut [f32]) {
        let g = self.geometry;
        match padded_row
            .checked_sub(g.padding()[0])
            .filter(|&row| row < g.in_height())
        {
            None => to.fill(0.0),
            Some(row) => {
                let len = g.in_width() * g.in_channels();
                let start = (image * g.in_height() + row) * len;
                let edge = g.padding()[1] * g.in_channels();
                to[..edge].fill(0.0);
                to[edge..edge + len].copy_from_slice(&self.x[start..start + len]);
                to[edge + len..].fill(0.0);
            }
        }
    }

    /// Lists the windows of one output row whose top row is `row`.
    fn push_row(&self, row: usize, windows: &mut Vec<usize>) {
        let g = self.geometry;
        let step = g.stride()[1] * g.in_channels();
        let mut start = row * self.row_len;
        for _ in 0..g.out_width() {
            windows.push(start);
            start += step;
        }
    }
}
