//! What happens to sums between two layers: fixed-point scaling, residual addition, ReLU and the codes
//! of the next layer: the constants, and what they do to one value. All of it wraps in i32; whoever chooses the constants proves that nothing does.

use super::{output::Position, simd::MAX_LANES};
use crate::KernelError;

#[cfg(test)]
mod tests;

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
                return Err(KernelError::Shift { shift, limit: 31 });
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
    pub(super) fn scale(&self, c: usize, sum: i32) -> i32 {
        let (multiplier, offset, shift) = self.channel(c);
        sum.wrapping_mul(multiplier).wrapping_add(offset) >> (shift & 31)
    }
}

/// The constants of as many neighbouring channels as the longest vector has lanes, in arrays of their own: what is computed
/// from them can be computed in vectors, because no write to the output changes them.
#[derive(Clone, Copy, Default)]
pub(super) struct LaneConstants {
    pub(super) multiplier: [i32; MAX_LANES],
    pub(super) offset: [i32; MAX_LANES],
    pub(super) shift: [u32; MAX_LANES],
}

impl LaneConstants {
    /// Those of the channels from `first` on, of which there must be as many.
    #[inline(always)]
    pub(super) fn of(scales: &ChannelScales, first: usize) -> Self {
        let (multiplier, offset, shift) = scales.from(first);
        Self {
            multiplier: fixed(multiplier),
            offset: fixed(offset),
            shift: fixed(shift),
        }
    }

    /// z of one sum of each channel.
    #[inline(always)]
    pub(super) fn scale(&self, sums: &[i32; MAX_LANES]) -> [i32; MAX_LANES] {
        let mut z = [0; MAX_LANES];
        for lane in 0..MAX_LANES {
            z[lane] = sums[lane]
                .wrapping_mul(self.multiplier[lane])
                .wrapping_add(self.offset[lane])
                >> (self.shift[lane] & 31);
        }
        z
    }
}

/// The first values, as many as the longest vector has lanes.
#[inline(always)]
pub(super) fn fixed<T: Copy + Default>(values: &[T]) -> [T; MAX_LANES] {
    values
        .first_chunk()
        .copied()
        .unwrap_or([T::default(); MAX_LANES])
}

/// One fixed-point scale for all channels of an i16 map:
/// q = ((v · multiplier + 2^(shift − 1)) >> shift) + zero, in i32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeScale {
    multiplier: i16,
    shift: u32,
    zero: i16,
}

impl CodeScale {
    /// The scale with these constants.
    ///
    /// # Errors
    /// [`KernelError::Shift`] unless the shift is 1 to 29.
    pub fn new(multiplier: i16, shift: u32, zero: i16) -> Result<Self, KernelError> {
        if !(1..=29).contains(&shift) {
            return Err(KernelError::Shift { shift, limit: 29 });
        }
        Ok(Self {
            multiplier,
            shift,
            zero,
        })
    }

    /// Factor.
    pub fn multiplier(self) -> i16 {
        self.multiplier
    }

    /// Arithmetic shift to the right, 1 to 29.
    pub fn shift(self) -> u32 {
        self.shift
    }

    /// The q of a value of 0.
    pub fn zero(self) -> i16 {
        self.zero
    }

    /// A product and its rounding as a sum of two products, v · multiplier + c · half/c: one instruction on pairs of v
    /// and c. Half of the divisor may not fit 16 bits, both factors of it do.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn pairs(self) -> PairScale {
        let half = self.shift - 1;
        let (first, second) = (half.min(14), half.saturating_sub(14));
        PairScale {
            rounding: 1 << first,
            factors: i32::from(self.multiplier as u16) | 1 << (16 + second),
        }
    }

    /// The same for products of 16 bits of which only the upper halves are there. From shifts of 17 on, half of the
    /// divisor is a multiple of 2^16: the low half of a product never carries, and its high half, to which the rounding is
    /// added, is enough. None if the shift is less, or zero so far away that 16 bits do not hold the offset beside a
    /// product, which is at most 2^14.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn high(self) -> Option<HighScale> {
        let half = self.shift.checked_sub(17)?;
        let offset = (1 << half) + (i32::from(self.zero) << (half + 1));
        (offset.abs() < 1 << 14).then_some(HighScale {
            offset: offset as i16,
            shift: half + 1,
        })
    }

    /// q of one value.
    #[inline(always)]
    pub(crate) fn scale(self, v: i16) -> i32 {
        let product = i32::from(v) * i32::from(self.multiplier) + (1 << (self.shift - 1));
        (product >> self.shift) + i32::from(self.zero)
    }
}

/// A [`CodeScale`] for sums of pairs.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct PairScale {
    /// c
    pub(crate) rounding: i16,
    /// The multiplier, and half/c above it.
    pub(crate) factors: i32,
}

/// q = (the upper half of v · multiplier + offset) >> shift, in i16.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct HighScale {
    /// Half of the divisor and zero times the divisor, without their lower 16 bits.
    pub(crate) offset: i16,
    pub(crate) shift: u32,
}

/// A value of a map: a scaled sum and a residual, saturated one after the other, and raised to `low`.
#[inline(always)]
pub(crate) fn finish(z: i32, residual: i16, low: i16) -> i16 {
    let z = z.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    z.saturating_add(residual).max(low)
}

/// Codes that are made of a map's values as soon as they are there.
#[derive(Debug)]
pub struct MapCodes<'a> {
    /// How.
    pub scale: CodeScale,
    /// Where to.
    pub rows: CodeRows<'a>,
}

/// The scales of a layer, prepared for the kernel and the weights whose sums they scale.
#[derive(Clone, Debug)]
pub struct FoldedScales {
    /// As they were given.
    pub(super) plain: ChannelScales,
    /// For sums that lack what their weights add.
    pub(super) folded: ChannelScales,
}

impl FoldedScales {
    /// `bias` is what the sums of each channel lack.
    pub(super) fn new(plain: &ChannelScales, bias: impl Iterator<Item = i32>) -> Self {
        let mut folded = plain.clone();
        let constants = folded.offset.iter_mut().zip(&folded.multiplier);
        for ((offset, multiplier), bias) in constants.zip(bias) {
            *offset = offset.wrapping_add(bias.wrapping_mul(*multiplier));
        }
        Self {
            plain: plain.clone(),
            folded,
        }
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
    #[inline(always)]
    pub(crate) fn code(self, q: i32) -> u8 {
        (q.clamp(0, self.max.into()) * i32::from(self.factor)) as u8
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
    /// Where a pixel's first code is.
    #[inline(always)]
    pub(super) fn offset(&self, at: Position) -> usize {
        self.start + at.row * self.row_pitch + at.column * self.pixel_pitch
    }

    /// The rows from row `row` on.
    pub(crate) fn starting_at(&mut self, row: usize) -> CodeRows<'_> {
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
