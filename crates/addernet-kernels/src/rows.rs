//! Output rows counted through a whole batch.

use crate::ConvGeometry;
use rayon::prelude::*;

/// Consecutive output rows of one image.
pub(crate) struct Piece {
    pub(crate) image: usize,
    pub(crate) rows: std::ops::Range<usize>,
}

/// Splits rows counted through the batch into pieces that belong to one image each.
pub(crate) fn pieces(rows: std::ops::Range<usize>, height: usize) -> impl Iterator<Item = Piece> {
    let mut next = rows.start;
    std::iter::from_fn(move || {
        (next < rows.end).then(|| {
            let (image, first) = match next < height {
                // Most calls are for one image, and a division takes as long as all of this.
                true => (0, next),
                false => (next / height, next % height),
            };
            let last = height.min(first + rows.end - next);
            next += last - first;
            Piece {
                image,
                rows: first..last,
            }
        })
    })
}

/// Units per thread, so that an uneven division costs little.
const UNITS_PER_THREAD: usize = 4;

/// How large a unit, the output rows that a thread computes at a time, should be.
pub(crate) struct UnitSize {
    /// Input elements that it should read: they should stay in a cache.
    pub(crate) input: usize,
    /// Terms below which it is not worth a thread's attention (some microseconds).
    pub(crate) min_terms: u64,
}

impl UnitSize {
    /// Output rows per unit, where a row of the padded input has `row_len` elements. Rows are
    /// counted through the whole batch, so a unit of a small map spans images.
    pub(crate) fn rows(&self, geometry: &ConvGeometry, row_len: usize, threads: usize) -> usize {
        let rows = geometry.batch() * geometry.out_height();
        let row_input = geometry.stride()[0].saturating_mul(row_len);
        if threads == 1 && rows.saturating_mul(row_input) <= self.input {
            // Without a division: calls for small layers take less than a microsecond.
            return rows;
        }
        let in_cache = (self.input / row_input).max(1);
        if threads == 1 {
            return in_cache.min(rows);
        }
        let row_terms = geometry.elements() / rows as u64;
        let worthwhile = self.min_terms.div_ceil(row_terms) as usize;
        let shared = rows.div_ceil(threads * UNITS_PER_THREAD);
        in_cache.min(shared.max(worthwhile)).clamp(1, rows)
    }
}

/// Computes the whole output `y`, `unit_rows` rows at a time: `run` gets a unit's first row and its
/// part of `y`.
pub(crate) fn run_units<T: Send>(
    geometry: &ConvGeometry,
    y: &mut [T],
    unit_rows: usize,
    threads: usize,
    run: impl Fn(usize, &mut [T]) + Sync,
) {
    let unit_len = unit_rows * geometry.out_width() * geometry.out_channels();
    if threads == 1 || unit_len >= y.len() {
        for (unit, y) in y.chunks_mut(unit_len).enumerate() {
            run(unit * unit_rows, y);
        }
    } else {
        y.par_chunks_mut(unit_len)
            .enumerate()
            .for_each(|(unit, y)| run(unit * unit_rows, y));
    }
}
