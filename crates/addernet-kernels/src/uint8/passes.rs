//! Scaling, residuals and codes in passes of their own over all sums or values that a kernel left behind: portable code,
//! which the compiler makes vectors of.

use super::{
    rescale::{ChannelScales, CodeRows, CodeScale, LaneConstants, Residual, finish, fixed},
    simd::{MAX_LANES, SimdU8, Task},
};
use crate::{KernelError, error::check_len};

/// Channels that are computed together: a vector of i32 in the widest instruction set.
const BLOCK: usize = MAX_LANES;

/// Scaled sums become codes.
pub(super) struct ToCodes<'a> {
    pub(super) sums: &'a [i32],
    pub(super) width: usize,
    pub(super) scales: &'a ChannelScales,
    pub(super) to: CodeRows<'a>,
}

/// Scaled sums, with the residual and through the ReLU, become a map.
pub(super) struct ToMap<'a> {
    pub(super) sums: &'a [i32],
    pub(super) scales: &'a ChannelScales,
    pub(super) residual: Residual<'a>,
    pub(super) relu: bool,
    pub(super) map: &'a mut [i16],
}

/// A map becomes codes.
pub(super) struct MapToCodes<'a> {
    pub(super) map: &'a [i16],
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) scale: CodeScale,
    pub(super) to: CodeRows<'a>,
}

/// The number of rows of `width` pixels of `channels` that `len` values make.
fn rows(
    what: &'static str,
    len: usize,
    width: usize,
    channels: usize,
) -> Result<usize, KernelError> {
    let row = width.saturating_mul(channels).max(1);
    check_len(what, len.next_multiple_of(row), len)?;
    Ok(len / row)
}

impl ToCodes<'_> {
    pub(super) fn check(&self) -> Result<(), KernelError> {
        let channels = self.scales.channels();
        let rows = rows("sums", self.sums.len(), self.width, channels)?;
        self.to.check(rows, self.width, channels)
    }

    #[inline(always)]
    fn blocks(self) {
        let (scales, channels) = (self.scales, self.scales.channels());
        if channels == 0 {
            return;
        }
        let row_len = self.width * channels;
        let CodeRows {
            codes,
            start,
            row_pitch,
            pixel_pitch,
            range,
        } = self.to;
        let whole = channels - channels % BLOCK;
        for first in (0..whole).step_by(BLOCK) {
            let block = LaneConstants::of(scales, first);
            for (row, sums) in self.sums.chunks_exact(row_len).enumerate() {
                let codes = &mut codes[start + row * row_pitch..];
                for (pixel, sums) in sums.chunks_exact(channels).enumerate() {
                    let sums: &[i32; BLOCK] = sums[first..].first_chunk().unwrap_or(&[0; BLOCK]);
                    let to = &mut codes[pixel * pixel_pitch + first..][..BLOCK];
                    let z = block.scale(sums);
                    for c in 0..BLOCK {
                        to[c] = range.code(z[c]);
                    }
                }
            }
        }
        if whole == channels {
            return;
        }
        for (row, sums) in self.sums.chunks_exact(row_len).enumerate() {
            let codes = &mut codes[start + row * row_pitch..];
            for (pixel, sums) in sums.chunks_exact(channels).enumerate() {
                let to = &mut codes[pixel * pixel_pitch..][..channels];
                for c in whole..channels {
                    to[c] = range.code(scales.scale(c, sums[c]));
                }
            }
        }
    }
}

impl Task for ToCodes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(self, _: S) {
        self.blocks();
    }
}

impl ToMap<'_> {
    pub(super) fn check(&self) -> Result<(), KernelError> {
        rows("sums", self.sums.len(), 1, self.scales.channels())?;
        check_len("map", self.sums.len(), self.map.len())?;
        match self.residual {
            Residual::Map(residual) => check_len("residual", self.map.len(), residual.len()),
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn blocks(self, residual: impl Residuals) {
        let (scales, channels) = (self.scales, self.scales.channels());
        if channels == 0 {
            return;
        }
        let low = if self.relu { 0 } else { i16::MIN };
        let whole = channels - channels % BLOCK;
        for first in (0..whole).step_by(BLOCK) {
            let block = LaneConstants::of(scales, first);
            let pixels = self
                .sums
                .chunks_exact(channels)
                .zip(self.map.chunks_exact_mut(channels));
            for (pixel, (sums, map)) in pixels.enumerate() {
                let sums: &[i32; BLOCK] = sums[first..].first_chunk().unwrap_or(&[0; BLOCK]);
                let Some(map) = map[first..].first_chunk_mut::<BLOCK>() else {
                    continue;
                };
                let z = block.scale(sums);
                let added = residual.block(map, pixel * channels + first);
                for c in 0..BLOCK {
                    map[c] = finish(z[c], added[c], low);
                }
            }
        }
        if whole == channels {
            return;
        }
        let pixels = self
            .sums
            .chunks_exact(channels)
            .zip(self.map.chunks_exact_mut(channels));
        for (pixel, (sums, map)) in pixels.enumerate() {
            for c in whole..channels {
                let added = residual.one(map[c], pixel * channels + c);
                map[c] = finish(scales.scale(c, sums[c]), added, low);
            }
        }
    }
}

/// What is added to the values of a map.
trait Residuals: Copy {
    /// To a block from place `at` on, which holds `old`.
    fn block(self, old: &[i16; BLOCK], at: usize) -> [i16; BLOCK];

    /// To the value at one place.
    fn one(self, old: i16, at: usize) -> i16;
}

#[derive(Clone, Copy)]
struct Nothing;

impl Residuals for Nothing {
    #[inline(always)]
    fn block(self, _: &[i16; BLOCK], _: usize) -> [i16; BLOCK] {
        [0; BLOCK]
    }

    #[inline(always)]
    fn one(self, _: i16, _: usize) -> i16 {
        0
    }
}

#[derive(Clone, Copy)]
struct Own;

impl Residuals for Own {
    #[inline(always)]
    fn block(self, old: &[i16; BLOCK], _: usize) -> [i16; BLOCK] {
        *old
    }

    #[inline(always)]
    fn one(self, old: i16, _: usize) -> i16 {
        old
    }
}

#[derive(Clone, Copy)]
struct Other<'a>(&'a [i16]);

impl Residuals for Other<'_> {
    #[inline(always)]
    fn block(self, _: &[i16; BLOCK], at: usize) -> [i16; BLOCK] {
        fixed(&self.0[at..])
    }

    #[inline(always)]
    fn one(self, _: i16, at: usize) -> i16 {
        self.0[at]
    }
}

impl Task for ToMap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(self, _: S) {
        match self.residual {
            Residual::None => self.blocks(Nothing),
            Residual::InPlace => self.blocks(Own),
            Residual::Map(other) => self.blocks(Other(other)),
        }
    }
}

impl MapToCodes<'_> {
    pub(super) fn check(&self) -> Result<(), KernelError> {
        let rows = rows("map", self.map.len(), self.width, self.channels)?;
        self.to.check(rows, self.width, self.channels)
    }

    #[inline(always)]
    fn rows(self) {
        let row_len = self.width * self.channels;
        if row_len == 0 {
            return;
        }
        let CodeRows {
            codes,
            start,
            row_pitch,
            pixel_pitch,
            range,
        } = self.to;
        let scale = self.scale;
        for (row, map) in self.map.chunks_exact(row_len).enumerate() {
            let codes = &mut codes[start + row * row_pitch..];
            // A row without gaps is one long pixel.
            let (pixel_len, pitch) = match pixel_pitch == self.channels {
                true => (row_len, row_len),
                false => (self.channels, pixel_pitch),
            };
            for (pixel, map) in map.chunks_exact(pixel_len).enumerate() {
                let to = &mut codes[pixel * pitch..][..pixel_len];
                for (&v, to) in map.iter().zip(to) {
                    *to = range.code(scale.scale(v));
                }
            }
        }
    }
}

impl Task for MapToCodes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(self, _: S) {
        self.rows();
    }
}
