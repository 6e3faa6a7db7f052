//! The whole convolution: rows are grouped into units, padded where needed, and shared among
//! threads.

use super::{
    RowSink,
    box_sum::Windows,
    output::Output,
    pack::{Layout, PackedWeightsU8},
    passes::{MapToCodes, ToCodes, ToMap},
    pixels::{self, Conv, PackedWeightsI8},
    rescale::{CodeRows, FoldedScales, MapCodes, Residual},
    simd::SimdU8,
    tile::{Buffers, Unit},
};
use crate::{
    ConvGeometry, KernelError,
    aligned::AlignedVec,
    error::check_len,
    geometry::checked_len,
    rows::{self, UnitSize, pieces},
};
use std::{cell::RefCell, ops::Range};

/// Bytes in a cache line.
const LINE: usize = 64;
/// The input of a unit is most of a first-level cache.
const UNIT: UnitSize = UnitSize {
    input: 32 * 1024,
    min_terms: 1024 * 1024,
};

/// A thread's buffers, kept between calls.
struct Scratch {
    rows: AlignedVec<u8>,
    tops: Vec<usize>,
    buffers: Buffers,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch {
            rows: AlignedVec::new(),
            tops: Vec::new(),
            buffers: Buffers::new(),
        })
    };
}

pub(crate) fn forward<S: SimdU8>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[u8],
    pad: u8,
    weights: &PackedWeightsU8,
    y: &mut [i32],
) -> Result<(), KernelError> {
    check_len("output", geometry.out_len(), y.len())?;
    check::<S>(geometry, x, weights)?;
    let layer = Layer::new::<S>(geometry, x, pad, weights)?;
    let threads = rayon::current_num_threads();
    let unit_rows = UNIT.rows(geometry, layer.windows.row_len(), threads);
    layer.run_units(simd, y, unit_rows, threads);
    Ok(())
}

pub(crate) fn forward_rows<S: SimdU8>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[u8],
    weights: &PackedWeightsU8,
    buffer: &mut [i32],
    sink: &mut RowSink<'_>,
) -> Result<(), KernelError> {
    let layer = Layer::of_one_image::<S>(geometry, x, weights)?;
    in_row_units(geometry, buffer, |rows, y| {
        layer.run(simd, rows.clone(), Output::Sums(y));
        sink(rows.start, y);
    })
}

pub(crate) fn convolve_rows<S: SimdU8>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[u8],
    weights: &PackedWeightsI8,
    buffer: &mut [i32],
    sink: &mut RowSink<'_>,
) -> Result<(), KernelError> {
    pixels::check(geometry, x, weights)?;
    in_row_units(geometry, buffer, |rows, y| {
        let output = Output::Sums(y);
        simd.vectorize(Conv::new(geometry, x, weights, rows.clone(), output));
        sink(rows.start, y);
    })
}

/// Sums that go through the first-level cache at a time, where they are not scaled in registers.
const BUFFER: usize = 4096;

pub(crate) fn forward_codes<S: SimdU8>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[u8],
    weights: &PackedWeightsU8,
    scales: &FoldedScales,
    mut to: CodeRows<'_>,
) -> Result<(), KernelError> {
    let layer = Layer::of_one_image::<S>(geometry, x, weights)?;
    let (width, channels) = (geometry.out_width(), geometry.out_channels());
    check_len("scales", channels, scales.plain.channels())?;
    to.check(geometry.out_height(), width, channels)?;
    if channels.is_multiple_of(S::LANES) {
        for rows in layer.units() {
            let (scales, to) = (&scales.folded, to.starting_at(rows.start));
            layer.run(simd, rows, Output::Codes { scales, to });
        }
        return Ok(());
    }
    let run = |rows, output: Output<'_, '_>| layer.run(simd, rows, output);
    through_buffer(geometry, run, |rows, sums| {
        simd.vectorize(ToCodes {
            sums,
            width,
            scales: &scales.plain,
            to: to.starting_at(rows.start),
        });
    });
    Ok(())
}

/// What becomes of a layer's scaled sums.
pub struct MapOutput<'a, 'c> {
    /// What is added to them.
    pub residual: Residual<'a>,
    /// Whether they go through a ReLU then.
    pub relu: bool,
    /// Where they go, `[out_height][out_width][out_channels]`.
    pub map: &'a mut [i16],
    /// The codes that they become as well.
    pub codes: &'a mut [MapCodes<'c>],
}

pub(crate) fn forward_map<S: SimdU8>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[u8],
    weights: &PackedWeightsU8,
    scales: &FoldedScales,
    output: MapOutput<'_, '_>,
) -> Result<(), KernelError> {
    let layer = Layer::of_one_image::<S>(geometry, x, weights)?;
    let whole = geometry.out_channels().is_multiple_of(S::LANES);
    let unit = whole.then(|| UNIT.rows(geometry, layer.windows.row_len(), 1));
    to_map(simd, geometry, scales, output, unit, |rows, output| {
        layer.run(simd, rows, output);
    })
}

pub(crate) fn convolve_map<S: SimdU8>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[u8],
    weights: &PackedWeightsI8,
    scales: &FoldedScales,
    output: MapOutput<'_, '_>,
) -> Result<(), KernelError> {
    pixels::check(geometry, x, weights)?;
    let unit = Conv::scales::<S>(geometry).then(|| geometry.out_height());
    to_map(simd, geometry, scales, output, unit, |rows, output| {
        simd.vectorize(Conv::new(geometry, x, weights, rows, output));
    })
}

/// Runs a layer of one image whose sums become a map: `unit` rows at a time, or, if its sums are not scaled
/// in registers, as many as a buffer has room for.
fn to_map<S: SimdU8>(
    simd: S,
    geometry: &ConvGeometry,
    scales: &FoldedScales,
    MapOutput {
        residual,
        relu,
        map,
        codes,
    }: MapOutput<'_, '_>,
    unit: Option<usize>,
    mut run: impl FnMut(Range<usize>, Output<'_, '_>),
) -> Result<(), KernelError> {
    let (width, channels) = (geometry.out_width(), geometry.out_channels());
    check_len("scales", channels, scales.plain.channels())?;
    check_len("map", geometry.out_len(), map.len())?;
    if let Residual::Map(residual) = residual {
        check_len("residual", map.len(), residual.len())?;
    }
    for codes in codes.iter() {
        codes.rows.check(geometry.out_height(), width, channels)?;
    }
    let part = |rows: &Range<usize>| rows.start * width * channels..rows.end * width * channels;
    let residual_of = |rows: &Range<usize>| match residual {
        Residual::Map(residual) => Residual::Map(&residual[part(rows)]),
        other => other,
    };
    if let Some(unit) = unit {
        for rows in row_ranges(geometry, unit) {
            let output = Output::Map {
                scales: &scales.folded,
                residual: residual_of(&rows),
                low: if relu { 0 } else { i16::MIN },
                map: &mut map[part(&rows)],
                codes: &mut *codes,
                first_row: rows.start,
            };
            run(rows, output);
        }
        return Ok(());
    }
    through_buffer(geometry, run, |rows, sums| {
        simd.vectorize(ToMap {
            sums,
            scales: &scales.plain,
            residual: residual_of(&rows),
            relu,
            map: &mut map[part(&rows)],
        });
        for codes in codes.iter_mut() {
            simd.vectorize(MapToCodes {
                map: &map[part(&rows)],
                width,
                channels,
                scale: codes.scale,
                to: codes.rows.starting_at(rows.start),
            });
        }
    });
    Ok(())
}

/// Computes one image's sums, a few rows at a time, in a buffer from which `finish` takes them.
fn through_buffer(
    geometry: &ConvGeometry,
    mut run: impl FnMut(Range<usize>, Output<'_, '_>),
    mut finish: impl FnMut(Range<usize>, &[i32]),
) {
    let row = geometry.out_width() * geometry.out_channels();
    let unit_rows = (BUFFER / row).max(1);
    let mut buffer = vec![0; row * unit_rows.min(geometry.out_height())];
    for rows in row_ranges(geometry, unit_rows) {
        let sums = &mut buffer[..rows.len() * row];
        run(rows.clone(), Output::Sums(sums));
        finish(rows, sums);
    }
}

/// The output rows of one image, `unit_rows` at a time.
fn row_ranges(geometry: &ConvGeometry, unit_rows: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = geometry.out_height();
    let mut next = 0usize;
    // `step_by` would divide.
    std::iter::from_fn(move || {
        let first = next;
        next = rows.min(first.saturating_add(unit_rows));
        (first < next).then_some(first..next)
    })
}

/// Calls `run` with the numbers of and room for the sums of each unit of output rows, as many as `buffer`
/// has room for.
fn in_row_units(
    geometry: &ConvGeometry,
    buffer: &mut [i32],
    mut run: impl FnMut(Range<usize>, &mut [i32]),
) -> Result<(), KernelError> {
    let row = geometry.out_width() * geometry.out_channels();
    let unit_rows = buffer.len() / row;
    if unit_rows == 0 {
        return Err(KernelError::WrongLength {
            what: "buffer for rows of sums",
            expected: row,
            actual: buffer.len(),
        });
    }
    for rows in row_ranges(geometry, unit_rows) {
        let y = &mut buffer[..rows.len() * row];
        run(rows, y);
    }
    Ok(())
}

/// Checks input and weights against the geometry.
fn check<S: SimdU8>(
    geometry: &ConvGeometry,
    x: &[u8],
    weights: &PackedWeightsU8,
) -> Result<(), KernelError> {
    check_len("input", geometry.in_len(), x.len())?;
    if weights.shape() != geometry.weight_shape() {
        return Err(KernelError::WeightShape {
            expected: geometry.weight_shape(),
            packed: weights.shape(),
        });
    }
    if weights.layout() != Layout::of::<S>() {
        return Err(KernelError::PackedLayout {
            packed_by: weights.packed_by(),
            kernel: S::NAME,
        });
    }
    Ok(())
}

/// One call's constants.
pub(super) struct Layer<'a> {
    geometry: &'a ConvGeometry,
    x: &'a [u8],
    pad: u8,
    weights: &'a PackedWeightsU8,
    windows: Windows,
    /// Whether the kernel reads a padded copy instead of the input itself.
    copied: bool,
}

impl<'a> Layer<'a> {
    pub(super) fn new<S: SimdU8>(
        geometry: &'a ConvGeometry,
        x: &'a [u8],
        pad: u8,
        weights: &'a PackedWeightsU8,
    ) -> Result<Self, KernelError> {
        let channels = geometry.in_channels().next_multiple_of(S::GROUP);
        let [padding, width] = [geometry.padding()[1], geometry.in_width()];
        let copied = geometry.padding() != [0, 0] || channels != geometry.in_channels();
        // Rows of the copy share the border between them. A longer border may let them start on a
        // cache line.
        let to_lines = || {
            let line = LINE / channels.min(LINE);
            match LINE.is_multiple_of(channels) && width.is_multiple_of(line) {
                true => padding.next_multiple_of(line),
                false => padding,
            }
        };
        let border = if padding == 0 { 0 } else { to_lines() };
        let windows = Windows {
            size: geometry.kernel(),
            stride: geometry.stride()[1],
            per_row: geometry.out_width(),
            row_pixels: width + border,
            lead: border - padding,
            border,
            channels,
        };
        if copied {
            // A group of channels may be larger than the pixel it pads, and a line than its border.
            let rows = geometry.in_height() + 2 * geometry.padding()[0] + 1;
            let sizes = [geometry.batch(), rows, windows.row_pixels, channels];
            checked_len("padded input", &sizes)?;
        }
        Ok(Self {
            geometry,
            x,
            pad,
            weights,
            windows,
            copied,
        })
    }

    /// A layer that reads one image, padded already.
    fn of_one_image<S: SimdU8>(
        geometry: &'a ConvGeometry,
        x: &'a [u8],
        weights: &'a PackedWeightsU8,
    ) -> Result<Self, KernelError> {
        check_len("images of one call", 1, geometry.batch())?;
        check::<S>(geometry, x, weights)?;
        let layer = Self::new::<S>(geometry, x, 0, weights)?;
        if layer.copied {
            let [rows, columns] = geometry.padding();
            check_len("padding", 0, rows + columns)?;
            let channels = geometry.in_channels();
            let whole = channels.next_multiple_of(S::GROUP);
            check_len("input channels", whole, channels)?;
        }
        Ok(layer)
    }

    /// The output rows of one image in units whose input stays in the cache.
    fn units(&self) -> impl Iterator<Item = Range<usize>> {
        row_ranges(
            self.geometry,
            UNIT.rows(self.geometry, self.windows.row_len(), 1),
        )
    }

    /// Computes the whole output, `unit_rows` rows at a time.
    pub(super) fn run_units<S: SimdU8>(
        &self,
        simd: S,
        y: &mut [i32],
        unit_rows: usize,
        threads: usize,
    ) {
        rows::run_units(self.geometry, y, unit_rows, threads, |first_row, y| {
            let rows = y.len() / (self.geometry.out_width() * self.geometry.out_channels());
            self.run(simd, first_row..first_row + rows, Output::Sums(y));
        });
    }

    /// Computes some output rows, for which `output` has room.
    fn run<S: SimdU8>(&self, simd: S, rows: Range<usize>, output: Output<'_, '_>) {
        SCRATCH.with_borrow_mut(
            |Scratch {
                 rows: padded,
                 tops,
                 buffers,
             }| {
                tops.clear();
                let x = if self.copied {
                    self.pad_rows(rows, padded, tops);
                    padded.as_slice()
                } else {
                    self.find_tops(rows, tops);
                    self.x
                };
                simd.vectorize(Unit::new(
                    self.weights,
                    &self.windows,
                    x,
                    tops,
                    buffers,
                    output,
                ));
            },
        );
    }

    /// Lists the rows of the input itself at which the windows of some output rows start.
    fn find_tops(&self, rows: Range<usize>, tops: &mut Vec<usize>) {
        let g = self.geometry;
        for piece in pieces(rows, g.out_height()) {
            let first = piece.image * g.in_height();
            tops.extend(piece.rows.map(|row| first + row * g.stride()[0]));
        }
    }

    /// Copies the input rows that some output rows need, with their padding, and lists the
    /// rows of the copy at which their windows start.
    fn pad_rows(&self, rows: Range<usize>, padded: &mut AlignedVec<u8>, tops: &mut Vec<usize>) {
        let g = self.geometry;
        let (stride, kernel_height) = (g.stride()[0], g.kernel()[0]);
        let mut needed = 0;
        for piece in pieces(rows.clone(), g.out_height()) {
            needed += (piece.rows.len() - 1) * stride + kernel_height;
        }
        let (row_len, edge) = (
            self.windows.row_len(),
            self.windows.border * self.windows.channels,
        );
        padded.resize(needed * row_len + edge);
        let padded = padded.as_mut_slice();
        let mut base = 0;
        for piece in pieces(rows, g.out_height()) {
            let height = (piece.rows.len() - 1) * stride + kernel_height;
            let top = piece.rows.start * stride;
            let piece_rows = &mut padded[base * row_len..(base + height) * row_len];
            for (u, row) in piece_rows.chunks_exact_mut(row_len).enumerate() {
                self.pad_row(piece.image, top + u, row);
            }
            tops.extend((0..piece.rows.len()).map(|row| base + row * stride));
            base += height;
        }
        self.fill(&mut padded[needed * row_len..]);
    }

    /// Fills one row of the padded input, the border before it included; `padded_row` is counted
    /// from the first padding row.
    fn pad_row(&self, image: usize, padded_row: usize, to: &mut [u8]) {
        let g = self.geometry;
        match padded_row
            .checked_sub(g.padding()[0])
            .filter(|&row| row < g.in_height())
        {
            None => self.fill(to),
            Some(row) => {
                let len = g.in_width() * g.in_channels();
                let start = (image * g.in_height() + row) * len;
                let (border, inner) = to.split_at_mut(self.windows.border * self.windows.channels);
                self.fill(border);
                self.copy(&self.x[start..start + len], inner);
            }
        }
    }

    /// Copies pixels, with zeros in the channels that fill up their last group: the weights there
    /// are zeros too, so they add nothing.
    fn copy(&self, from: &[u8], to: &mut [u8]) {
        let channels = self.geometry.in_channels();
        if channels == self.windows.channels {
            to.copy_from_slice(from);
            return;
        }
        for (from, to) in from
            .chunks_exact(channels)
            .zip(to.chunks_exact_mut(self.windows.channels))
        {
            to[..channels].copy_from_slice(from);
            to[channels..].fill(0);
        }
    }

    /// Fills pixels with the padding's code.
    fn fill(&self, to: &mut [u8]) {
        let channels = self.geometry.in_channels();
        if channels == self.windows.channels {
            to.fill(self.pad);
            return;
        }
        for pixel in to.chunks_exact_mut(self.windows.channels) {
            pixel[..channels].fill(self.pad);
            pixel[channels..].fill(0);
        }
    }
}
