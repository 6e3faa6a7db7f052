//! What happens to sums between two layers: fixed-point scaling, residual addition, ReLU and the codes
//! of the next layer. All of it wraps in i32; whoever chooses the constants proves that nothing does.

use super::simd::{SimdU8, Task};
use crate::{KernelError, error::check_len};

#[cfg(test)]
mod tests;

/// Channels that are computed together: a vector of i32 in the widest instruction set.
const BLOCK: usize = 16;

/// One fixed-point scale per channel: z = (s · multiplier + offset) >> shift, with an arithmetic
/// shift, in i32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelScales {
    multiplier: Vec<i32>,
    offset: Vec<i32>,
    shift: Vec<u32>,
}

impl ChannelScales {
    /// `(multiplier, offset, shift)` of each channel.
    ///
    /// # Errors
    /// [`KernelError::Shift`] if a shift is above 31.
    pub fn new(scales: impl IntoIterator<Item = (i32, i32, u32)>) -> Result<Self, KernelError> {
        let mut all = Self {
            multiplier: Vec::new(),
            offset: Vec::new(),
            shift: Vec::new(),
        };
        for (multiplier, offset, shift) in scales {
            if shift > 31 {
                return Err(KernelError::Shift { shift });
            }
            all.multiplier.push(multiplier);
            all.offset.push(offset);
            all.shift.push(shift);
        }
        Ok(all)
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.multiplier.len()
    }

    /// `(multiplier, offset, shift)` of channel `c`.
    ///
    /// # Panics
    /// If there is no channel `c`.
    pub fn channel(&self, c: usize) -> (i32, i32, u32) {
        (self.multiplier[c], self.offset[c], self.shift[c])
    }

    /// Multipliers, offsets and shifts from channel `c` on.
    #[inline(always)]
    pub(super) fn from(&self, c: usize) -> (&[i32], &[i32], &[u32]) {
        (&self.multiplier[c..], &self.offset[c..], &self.shift[c..])
    }

    /// z of one sum of channel `c`.
    #[inline(always)]
    fn scale(&self, c: usize, sum: i32) -> i32 {
        let (multiplier, offset, shift) = self.channel(c);
        sum.wrapping_mul(multiplier).wrapping_add(offset) >> (shift & 31)
    }

    /// The constants of the whole block of channels from `first` on.
    #[inline(always)]
    fn block(&self, first: usize) -> Block {
        Block {
            multiplier: fixed(&self.multiplier[first..]),
            offset: fixed(&self.offset[first..]),
            shift: fixed(&self.shift[first..]),
        }
    }
}

/// The constants of some neighbouring channels.
#[derive(Clone, Copy)]
struct Block {
    multiplier: [i32; BLOCK],
    offset: [i32; BLOCK],
    shift: [u32; BLOCK],
}

impl Block {
    #[inline(always)]
    fn scale(&self, sums: &[i32; BLOCK]) -> [i32; BLOCK] {
        let mut z = [0; BLOCK];
        for c in 0..BLOCK {
            z[c] = sums[c]
                .wrapping_mul(self.multiplier[c])
                .wrapping_add(self.offset[c])
                >> (self.shift[c] & 31);
        }
        z
    }
}

/// One fixed-point scale for all channels of an i16 map: q = (v · multiplier + offset) >> shift, in i32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeScale {
    /// Factor.
    pub multiplier: i32,
    /// Added before the shift, with one half for rounding in it.
    pub offset: i32,
    /// Arithmetic shift to the right, 0 to 31.
    pub shift: u32,
}

impl CodeScale {
    #[inline(always)]
    fn code<const PLAIN: bool>(self, v: i16, range: CodeRange) -> u8 {
        let z = i32::from(v)
            .wrapping_mul(self.multiplier)
            .wrapping_add(self.offset);
        range.code::<PLAIN>(z >> (self.shift & 31))
    }
}

/// Which codes an integer q becomes: clamp(q, 0, `max`) · `factor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRange {
    /// The largest q.
    pub max: u8,
    /// What it is multiplied by; `max · factor` is at most 255.
    pub factor: u8,
}

impl CodeRange {
    /// The code of `q`; `PLAIN` if the factor is 1.
    #[inline(always)]
    pub(crate) fn code<const PLAIN: bool>(self, q: i32) -> u8 {
        let q = q.clamp(0, self.max.into());
        if PLAIN {
            q as u8
        } else {
            (q * i32::from(self.factor)) as u8
        }
    }
}

/// Rows of codes inside a (padded) map.
#[derive(Debug)]
pub struct CodeRows<'a> {
    /// The map.
    pub codes: &'a mut [u8],
    /// Where the first row's first pixel is.
    pub start: usize,
    /// Codes from a row to the next.
    pub row_pitch: usize,
    /// Codes from a pixel to the next, at least as many as there are channels.
    pub pixel_pitch: usize,
    /// Which codes they become.
    pub range: CodeRange,
}

impl CodeRows<'_> {
    /// The rows from row `row` on.
    pub(super) fn from_row(&mut self, row: usize) -> CodeRows<'_> {
        CodeRows {
            codes: self.codes,
            start: self.start + row * self.row_pitch,
            ..*self
        }
    }

    /// Checks that `rows` rows of `width` pixels lie inside the map.
    pub(super) fn check(
        &self,
        rows: usize,
        width: usize,
        channels: usize,
    ) -> Result<(), KernelError> {
        let last = [
            (rows.saturating_sub(1), self.row_pitch),
            (width.saturating_sub(1), self.pixel_pitch),
            (channels, 1),
        ]
        .into_iter()
        .try_fold(self.start, |at, (count, pitch)| {
            at.checked_add(count.checked_mul(pitch)?)
        })
        .unwrap_or(usize::MAX);
        if last <= self.codes.len() {
            return Ok(());
        }
        Err(KernelError::WrongLength {
            what: "map of codes",
            expected: last,
            actual: self.codes.len(),
        })
    }
}

/// What is added to scaled sums.
#[derive(Clone, Copy, Debug)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// What the output holds already.
    InPlace,
    /// Another map of the same shape.
    Map(&'a [i16]),
}

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
    fn blocks<const PLAIN: bool>(self) {
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
            let block = scales.block(first);
            for (row, sums) in self.sums.chunks_exact(row_len).enumerate() {
                let codes = &mut codes[start + row * row_pitch..];
                for (pixel, sums) in sums.chunks_exact(channels).enumerate() {
                    let sums: &[i32; BLOCK] = sums[first..].first_chunk().unwrap_or(&[0; BLOCK]);
                    let to = &mut codes[pixel * pixel_pitch + first..][..BLOCK];
                    let z = block.scale(sums);
                    for c in 0..BLOCK {
                        to[c] = range.code::<PLAIN>(z[c]);
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
                    to[c] = range.code::<PLAIN>(scales.scale(c, sums[c]));
                }
            }
        }
    }
}

impl Task for ToCodes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(self, _: S) {
        match self.to.range.factor {
            1 => self.blocks::<true>(),
            _ => self.blocks::<false>(),
        }
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

    /// The map is clamped to i16, from 0 on with a ReLU. `residual(old, at)` is what is added to some
    /// values, from their old ones and their place.
    #[inline(always)]
    fn blocks(self, residual: impl Residuals) {
        let (scales, channels) = (self.scales, self.scales.channels());
        if channels == 0 {
            return;
        }
        let low = if self.relu { 0 } else { i16::MIN };
        let whole = channels - channels % BLOCK;
        for first in (0..whole).step_by(BLOCK) {
            let block = scales.block(first);
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
                    let sum = z[c].wrapping_add(i32::from(added[c]));
                    map[c] = sum.clamp(low.into(), i16::MAX.into()) as i16;
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
                let sum = scales.scale(c, sums[c]).wrapping_add(added.into());
                map[c] = sum.clamp(low.into(), i16::MAX.into()) as i16;
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
        if self.scale.shift > 31 {
            return Err(KernelError::Shift {
                shift: self.scale.shift,
            });
        }
        let rows = rows("map", self.map.len(), self.width, self.channels)?;
        self.to.check(rows, self.width, self.channels)
    }

    #[inline(always)]
    fn rows<const PLAIN: bool>(self) {
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
                    *to = scale.code::<PLAIN>(v, range);
                }
            }
        }
    }
}

impl Task for MapToCodes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(self, _: S) {
        match self.to.range.factor {
            1 => self.rows::<true>(),
            _ => self.rows::<false>(),
        }
    }
}

/// The first block of `values`.
#[inline(always)]
fn fixed<T: Copy + Default>(values: &[T]) -> [T; BLOCK] {
    values
        .first_chunk()
        .copied()
        .unwrap_or([T::default(); BLOCK])
}
