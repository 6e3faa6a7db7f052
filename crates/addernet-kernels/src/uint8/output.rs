//! What becomes of a tile's sums, and where it goes.
#![allow(unsafe_code)]

use super::{
    rescale::{ChannelScales, CodeRows, MapCodes, Residual},
    simd::{Constants, MAX_LANES, SimdU8, unrolled},
};

/// What becomes of the sums of some output rows.
pub(crate) enum Output<'a, 'c> {
    /// They are stored, `[rows][windows.per_row][out_channels]`.
    Sums(&'a mut [i32]),
    /// They are scaled to codes.
    Codes {
        scales: &'a ChannelScales,
        to: CodeRows<'a>,
    },
    /// They are scaled and added to a residual: the values of a map
    /// `[rows][windows.per_row][out_channels]`, no less than `low`, which then become codes.
    Map {
        scales: &'a ChannelScales,
        residual: Residual<'a>,
        low: i16,
        map: &'a mut [i16],
        codes: &'a mut [MapCodes<'c>],
        /// The first row's number among those that the maps of codes have.
        first_row: usize,
    },
}

impl<'c> Output<'_, 'c> {
    /// The same output, for a function of its own.
    #[inline(always)]
    pub(super) fn reborrow(&mut self) -> Output<'_, 'c> {
        match self {
            Output::Sums(y) => Output::Sums(y),
            Output::Codes { scales, to } => Output::Codes {
                scales,
                to: to.starting_at(0),
            },
            Output::Map {
                scales,
                residual,
                low,
                map,
                codes,
                first_row,
            } => Output::Map {
                scales,
                residual: *residual,
                low: *low,
                map,
                codes,
                first_row: *first_row,
            },
        }
    }

    /// Panics unless `rows` rows of `width` pixels of `channels` fit, and, where sums are scaled, blocks of
    /// `lanes` are whole.
    pub(super) fn check(&self, rows: usize, width: usize, channels: usize, lanes: usize) {
        let len = rows * width * channels;
        match self {
            Output::Sums(y) => assert_eq!(y.len(), len),
            Output::Codes { scales, to } => {
                assert!(scales.channels() == channels && channels.is_multiple_of(lanes));
                assert!(to.check(rows, width, channels).is_ok());
            }
            Output::Map {
                scales,
                residual,
                map,
                codes,
                first_row,
                ..
            } => {
                assert!(scales.channels() == channels && channels.is_multiple_of(lanes));
                assert_eq!(map.len(), len);
                if let Residual::Map(other) = residual {
                    assert_eq!(other.len(), len);
                }
                for codes in codes.iter() {
                    let rows = first_row + rows;
                    assert!(codes.rows.check(rows, width, channels).is_ok());
                }
            }
        }
    }

    /// Where a pixel's first channel is.
    #[inline(always)]
    pub(super) fn offset(&self, at: Position, width: usize, channels: usize) -> usize {
        match self {
            Output::Codes { to, .. } => to.offset(at),
            _ => (at.row * width + at.column) * channels,
        }
    }

    /// Writes what becomes of a tile's sums, those of `B` vectors of the `out_channels` from channel `first`
    /// on; the sums of vector b lack `bias(b)`. Pixel p is at `position(p)`, and its channels begin at
    /// `offset(p)` in the output.
    ///
    /// # Safety
    /// The output must have been checked, each bias have the kernel's lanes, and the offsets be those of
    /// pixels of the output.
    #[inline(always)]
    pub(super) unsafe fn store<'w, S: SimdU8, const P: usize, const B: usize>(
        &mut self,
        simd: S,
        [out_channels, first]: [usize; 2],
        bias: impl Fn(usize) -> &'w [i32],
        offset: impl Fn(usize) -> usize,
        position: impl Fn(usize) -> Position,
        sums: &[[S::Sums; B]; P],
    ) {
        match self {
            Output::Sums(y) if first + B * S::LANES <= out_channels => {
                let y = y.as_mut_ptr().wrapping_add(first);
                unrolled!(p to P, {
                    for b in 0..B {
                        // SAFETY: the pixel and all of the vector's channels are inside the output.
                        unsafe {
                            let sums = simd.add_bias(sums[p][b], bias(b));
                            simd.store(y.add(offset(p) + b * S::LANES), sums);
                        }
                    }
                });
            }
            Output::Sums(y) => {
                let mut lanes = [[[0; MAX_LANES]; B]; P];
                unrolled!(p to P, {
                    for b in 0..B {
                        // SAFETY: no vector has more than MAX_LANES lanes.
                        unsafe {
                            let sums = simd.add_bias(sums[p][b], bias(b));
                            simd.store(lanes[p][b].as_mut_ptr(), sums);
                        }
                    }
                });
                for (p, lanes) in lanes.iter().enumerate() {
                    for (b, lanes) in lanes.iter().enumerate() {
                        let channel = first + b * S::LANES;
                        if channel >= out_channels {
                            break; // Blocks of the ordinary convolution may have empty vectors.
                        }
                        let channels = S::LANES.min(out_channels - channel);
                        copy_lanes(&mut y[offset(p) + channel..][..channels], lanes);
                    }
                }
            }
            Output::Codes { scales, to } => {
                let constants = Constants::of(scales, first);
                // SAFETY: `check` found that blocks are whole, so that constants and codes of all lanes
                // are there.
                unsafe {
                    let codes = to.codes.as_mut_ptr().add(first);
                    simd.store_codes(codes, offset, sums, constants, to.range);
                }
            }
            Output::Map {
                scales,
                residual,
                low,
                map,
                codes,
                first_row,
            } => {
                let constants = Constants::of(scales, first);
                let map = map.as_mut_ptr();
                // SAFETY: `check` found that blocks are whole, so that constants, values and codes of all
                // lanes are there.
                unsafe {
                    let map = map.add(first);
                    let residual = match residual {
                        Residual::None => None,
                        Residual::InPlace => Some(map.cast_const()),
                        Residual::Map(other) => Some(other.as_ptr().add(first)),
                    };
                    let place = |rows: &CodeRows<'_>, p| {
                        let Position { row, column } = position(p);
                        let row = *first_row + row;
                        rows.offset(Position { row, column }) + first
                    };
                    simd.store_map(map, offset, sums, constants, residual, *low, codes, place);
                }
            }
        }
    }

    /// From a pixel to the next in its row.
    #[inline(always)]
    pub(super) fn step(&self, channels: usize) -> usize {
        match self {
            Output::Codes { to, .. } => to.pixel_pitch,
            _ => channels,
        }
    }
}

/// A pixel of a unit.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) row: usize,
    pub(super) column: usize,
}

/// The part of a vector that the last output channels fill. Not inlined, to keep the tiles' code
/// short.
#[inline(never)]
fn copy_lanes(y: &mut [i32], lanes: &[i32; MAX_LANES]) {
    y.copy_from_slice(&lanes[..y.len()]);
}
