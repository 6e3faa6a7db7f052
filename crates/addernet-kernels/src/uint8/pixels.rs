//! The ordinary convolution of u8 pixels with i8 weights: the first layer of a network.

use super::simd::{SimdU8, Task};
use crate::{
    ConvGeometry, KernelError,
    aligned::AlignedVec,
    error::{check_len, check_weights},
    geometry::checked_len,
};

#[cfg(test)]
mod tests;

/// Output channels of a block.
pub(crate) const LANES: usize = 16;
/// Input channels are filled up to a multiple of this.
pub const PIXEL_GROUP: usize = 4;
/// Bytes of one group of one tap of a block.
const VECTOR: usize = LANES * PIXEL_GROUP;

/// One ordinary convolution's i8 weights, rearranged:
/// `[out_channels / 16][height][width][in_channels / 4][16][4]`, missing channels are zeros.
#[derive(Clone, Debug)]
pub struct PackedWeightsI8 {
    shape: [usize; 4],
    data: AlignedVec<i8>,
}

impl PackedWeightsI8 {
    /// Rearranges the weights of one layer; `shape` is OIHW.
    ///
    /// # Errors
    /// [`KernelError::ZeroDimension`], [`KernelError::SizeOverflow`] or [`KernelError::WrongLength`]
    /// when shape and weights do not describe a layer; [`KernelError::AccumulatorOverflow`] when an
    /// output has so many terms that a sum of products of 255 and −128 would not fit an i32.
    pub fn new(shape: [usize; 4], weights: &[i8]) -> Result<Self, KernelError> {
        const LIMIT: usize = i32::MAX as usize / (255 * 128);
        let [out_channels, in_channels, height, width] = shape;
        check_weights(shape, weights.len())?;
        let (taps, area) = (in_channels * height * width, height * width);
        if taps > LIMIT {
            return Err(KernelError::AccumulatorOverflow { taps, limit: LIMIT });
        }
        let (blocks, groups) = (
            out_channels.div_ceil(LANES),
            in_channels.div_ceil(PIXEL_GROUP),
        );
        let len = checked_len("packed weights", &[blocks, area, groups, VECTOR])?;
        let mut data = AlignedVec::zeros(len);
        let packed: &mut [i8] = data.as_mut_slice();
        for (o, kernel) in weights.chunks_exact(taps).enumerate() {
            let lane = (o / LANES) * area * groups * VECTOR + (o % LANES) * PIXEL_GROUP;
            for (c, plane) in kernel.chunks_exact(area).enumerate() {
                for (position, &weight) in plane.iter().enumerate() {
                    let at = (position * groups + c / PIXEL_GROUP) * VECTOR + c % PIXEL_GROUP;
                    packed[lane + at] = weight;
                }
            }
        }
        Ok(Self { shape, data })
    }

    /// OIHW shape of the layer.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }
}

/// Some rows of windows of one block of output channels.
pub(crate) struct Windows<'a> {
    /// From the first window's first pixel on.
    pub(crate) x: &'a [u8],
    /// Bytes from a row of the input to the next.
    pub(crate) row_len: usize,
    /// Bytes from a window to the next.
    pub(crate) step: usize,
    /// Windows.
    pub(crate) count: usize,
    /// Rows of a kernel.
    pub(crate) height: usize,
    /// Groups of a kernel's row.
    pub(crate) row_groups: usize,
}

impl Windows<'_> {
    /// Panics unless all windows lie inside `x` and `weights` are those of one block.
    #[inline(always)]
    pub(crate) fn check(&self, weights: &[i8]) {
        let window = (self.height - 1) * self.row_len + self.row_groups * PIXEL_GROUP;
        assert!((self.count - 1) * self.step + window <= self.x.len());
        assert_eq!(weights.len(), self.height * self.row_groups * VECTOR);
    }
}

/// The sums of one row of windows by one block of channels, in arrays that the compiler vectorises.
#[inline(always)]
pub(crate) fn sums(windows: &Windows<'_>, weights: &[i8], to: &mut [[i32; LANES]]) {
    windows.check(weights);
    for (window, to) in to.iter_mut().enumerate().take(windows.count) {
        let mut sums = [0i32; LANES];
        for (row, weights) in weights
            .chunks_exact(windows.row_groups * VECTOR)
            .enumerate()
        {
            let x = &windows.x[window * windows.step + row * windows.row_len..];
            let pairs = x
                .as_chunks::<PIXEL_GROUP>()
                .0
                .iter()
                .zip(weights.as_chunks::<VECTOR>().0);
            for (x, weights) in pairs {
                let x = x.map(i16::from);
                for (sum, w) in sums.iter_mut().zip(weights.as_chunks::<PIXEL_GROUP>().0) {
                    for (x, &w) in x.iter().zip(w) {
                        *sum += i32::from(*x) * i32::from(i16::from(w));
                    }
                }
            }
        }
        *to = sums;
    }
}

/// The whole convolution of one padded image.
pub(super) struct Conv<'a> {
    pub(super) geometry: &'a ConvGeometry,
    pub(super) x: &'a [u8],
    pub(super) weights: &'a PackedWeightsI8,
    pub(super) first_row: usize,
    pub(super) y: &'a mut [i32],
}

impl Conv<'_> {
    /// Checks the sizes of all but `y`.
    pub(super) fn check(
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsI8,
    ) -> Result<(), KernelError> {
        check_len("images of one call", 1, geometry.batch())?;
        check_len("input", geometry.in_len(), x.len())?;
        check_len("padding", 0, geometry.padding()[0] + geometry.padding()[1])?;
        let channels = geometry.in_channels();
        check_len(
            "input channels",
            channels.next_multiple_of(PIXEL_GROUP),
            channels,
        )?;
        let [out_channels, in_channels, height, width] = weights.shape;
        let packed = [
            out_channels,
            in_channels.next_multiple_of(PIXEL_GROUP),
            height,
            width,
        ];
        if geometry.weight_shape() != packed {
            let expected = geometry.weight_shape();
            return Err(KernelError::WeightShape { expected, packed });
        }
        Ok(())
    }
}

impl Task for Conv<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(self, simd: S) {
        let g = self.geometry;
        let (channels, out_channels) = (g.in_channels(), g.out_channels());
        let row_len = g.in_width() * channels;
        let [height, width] = g.kernel();
        let row_groups = width * channels / PIXEL_GROUP;
        let block_len = height * row_groups * VECTOR;
        // A few windows at a time, whose sums go through the cache.
        const COUNT: usize = 32;
        let mut sums = [[0; LANES]; COUNT];
        for (row, y) in self
            .y
            .chunks_exact_mut(g.out_width() * out_channels)
            .enumerate()
        {
            let top = (self.first_row + row) * g.stride()[0] * row_len;
            let blocks = self.weights.data.as_slice().chunks_exact(block_len);
            for (block, weights) in blocks.enumerate() {
                let first = block * LANES;
                let lanes = LANES.min(out_channels - first);
                for column in (0..g.out_width()).step_by(COUNT) {
                    let step = g.stride()[1] * channels;
                    let windows = Windows {
                        x: &self.x[top + column * step..],
                        row_len,
                        step,
                        count: COUNT.min(g.out_width() - column),
                        height,
                        row_groups,
                    };
                    simd.pixel_products(&windows, weights, &mut sums);
                    let y = y[column * out_channels..].chunks_exact_mut(out_channels);
                    for (y, sums) in y.zip(&sums[..windows.count]) {
                        match y[first..].first_chunk_mut::<LANES>() {
                            Some(y) if lanes == LANES => *y = *sums,
                            _ => y[first..][..lanes].copy_from_slice(&sums[..lanes]),
                        }
                    }
                }
            }
        }
    }
}
