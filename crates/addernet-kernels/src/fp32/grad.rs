//! What both gradients share: weights with vectors over input channels, and padded maps.

use crate::{ConvGeometry, aligned::AlignedVec};

/// Which gradient of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightGradient {
    /// `∂w = Σ g · (x − w)` (Chen et al., CVPR 2020, equation 5): what AdderNets are trained with.
    FullPrecision,
    /// `∂w = Σ g · clamp(x − w, −1, 1)`: the derivative's sign away from x = w, without its jump.
    Clamped,
}

/// The layout `[in_channels / lanes][height][width][out_channels][lanes]` of a layer's weights or
/// of their gradient: a vector holds one tap of `lanes` neighbouring input channels.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) lanes: usize,
    pub(super) out_channels: usize,
    pub(super) in_channels: usize,
    pub(super) kernel: [usize; 2],
}

impl Layout {
    pub(super) fn new(geometry: &ConvGeometry, lanes: usize) -> Self {
        Self {
            lanes,
            out_channels: geometry.out_channels(),
            in_channels: geometry.in_channels(),
            kernel: geometry.kernel(),
        }
    }

    /// Vectors of input channels.
    pub(super) fn blocks(self) -> usize {
        self.in_channels.div_ceil(self.lanes)
    }

    /// Input channels, filled up to whole vectors.
    pub(super) fn channels(self) -> usize {
        self.blocks() * self.lanes
    }

    pub(super) fn len(self) -> usize {
        self.channels() * self.kernel[0] * self.kernel[1] * self.out_channels
    }

    /// Where the vectors of a tap start, one per output channel.
    #[inline(always)]
    pub(super) fn tap(self, block: usize, u: usize, v: usize) -> usize {
        ((block * self.kernel[0] + u) * self.kernel[1] + v) * self.out_channels * self.lanes
    }

    /// Calls `visit(index in OIHW, index in this layout)` for every weight.
    pub(super) fn for_each(self, mut visit: impl FnMut(usize, usize)) {
        let [height, width] = self.kernel;
        let mut index = 0;
        for o in 0..self.out_channels {
            for c in 0..self.in_channels {
                for u in 0..height {
                    for v in 0..width {
                        let vector = self.tap(c / self.lanes, u, v) + o * self.lanes;
                        visit(index, vector + c % self.lanes);
                        index += 1;
                    }
                }
            }
        }
    }

    /// Weights (OIHW) in this layout, missing channels 0.
    pub(super) fn pack(self, weights: &[f32]) -> AlignedVec<f32> {
        let mut packed = AlignedVec::zeros(self.len());
        let data = packed.as_mut_slice();
        self.for_each(|from, to| data[to] = weights[from]);
        packed
    }
}

/// Copies a map of `[height, width]` pixels of `channels` values into `to`, a zeroed map with rows of
/// `to_width` pixels of `to_channels` values, at row `top` and column `left`.
pub(super) fn place(
    from: &[f32],
    [height, width]: [usize; 2],
    channels: usize,
    to: &mut [f32],
    [top, left]: [usize; 2],
    [to_width, to_channels]: [usize; 2],
) {
    for (row, pixels) in from.chunks_exact(width * channels).take(height).enumerate() {
        let start = ((top + row) * to_width + left) * to_channels;
        if channels == to_channels {
            to[start..start + pixels.len()].copy_from_slice(pixels);
            continue;
        }
        for (pixel, to) in pixels
            .chunks_exact(channels)
            .zip(to[start..].chunks_exact_mut(to_channels))
        {
            to[..channels].copy_from_slice(pixel);
        }
    }
}
