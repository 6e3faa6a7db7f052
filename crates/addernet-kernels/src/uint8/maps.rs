//! What maps need before the first layer and behind the last one: room between pixels, and means.

use super::{
    pixels::PIXEL_GROUP,
    simd::{SimdU8, Task},
};
use crate::{KernelError, error::check_len};

#[cfg(test)]
mod tests;

/// Channels whose sums stay in registers.
const BLOCK: usize = 32;

/// Adds up each channel's values of neighbouring pixels.
pub(super) struct AddPixels<'a> {
    /// `[pixels][channels]`
    pub(super) map: &'a [i16],
    /// One for each channel.
    pub(super) sums: &'a mut [i32],
}

impl AddPixels<'_> {
    pub(super) fn check(&self) -> Result<(), KernelError> {
        let whole = self.map.len().next_multiple_of(self.sums.len().max(1));
        check_len("map", whole, self.map.len())
    }

    /// The channels from `first` on, as many as a block has.
    #[inline(always)]
    fn block(map: &[i16], channels: usize, first: usize, sums: &mut [i32; BLOCK]) {
        let mut all = *sums;
        for pixel in map.chunks_exact(channels) {
            if let Some(values) = pixel[first..].first_chunk::<BLOCK>() {
                for (sum, &value) in all.iter_mut().zip(values) {
                    *sum = sum.wrapping_add(value.into());
                }
            }
        }
        *sums = all;
    }
}

impl Task for AddPixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(self, _: S) {
        let channels = self.sums.len();
        let (blocks, rest) = self.sums.as_chunks_mut::<BLOCK>();
        let first = blocks.len() * BLOCK;
        for (block, sums) in blocks.iter_mut().enumerate() {
            Self::block(self.map, channels, block * BLOCK, sums);
        }
        if rest.is_empty() {
            return;
        }
        for pixel in self.map.chunks_exact(channels) {
            for (sum, &value) in rest.iter_mut().zip(&pixel[first..]) {
                *sum = sum.wrapping_add(value.into());
            }
        }
    }
}

/// Copies a row of pixels of `channels` bytes each into pixels that are `pitch` bytes apart; of three channels and a
/// pitch of four, the fourth becomes 0.
pub(super) struct SpreadPixels<'a> {
    pub(super) pixels: &'a [u8],
    pub(super) channels: usize,
    pub(super) to: &'a mut [u8],
    pub(super) pitch: usize,
}

impl SpreadPixels<'_> {
    pub(super) fn check(&self) -> Result<(), KernelError> {
        let (len, pitch) = (self.pixels.len(), self.pitch);
        let (channels, count) = match self.channels {
            // As most images have: the constant spares each of their rows a division.
            3 => (3, len.div_ceil(3)),
            channels => (channels.max(1), len.div_ceil(channels.max(1))),
        };
        check_len("pixels", count.saturating_mul(channels), len)?;
        check_len("bytes from a pixel to the next", pitch.max(channels), pitch)?;
        check_len(
            "room for pixels",
            count.saturating_mul(pitch),
            self.to.len(),
        )
    }
}

impl Task for SpreadPixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(self, simd: S) {
        let (channels, pitch) = (self.channels.max(1), self.pitch);
        if let (3, PIXEL_GROUP) = (channels, pitch) {
            return simd.three_to_four(self.pixels.as_chunks().0, self.to.as_chunks_mut().0);
        }
        let pixels = self.pixels.chunks_exact(channels);
        for (from, to) in pixels.zip(self.to.chunks_exact_mut(pitch)) {
            to[..channels].copy_from_slice(from);
        }
    }
}

/// Appends a zero to each pixel.
#[inline(always)]
pub(crate) fn three_to_four(from: &[[u8; 3]], to: &mut [[u8; 4]]) {
    for (&[a, b, c], to) in from.iter().zip(to) {
        *to = [a, b, c, 0];
    }
}
