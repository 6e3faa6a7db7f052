//! Weights in the order in which the tile kernel reads them.

use crate::{KernelError, aligned::AlignedVec, error::check_weights, geometry::checked_len};

/// One layer's weights, rearranged for the kernels of one layout.
///
/// The layout is `[out_channels / lanes][height][width][in_channels][lanes]`: a vector holds one
/// tap of `lanes` neighbouring output channels, and the vectors of an output follow each other in
/// the order of its sum. The last block's missing channels are zeros.
#[derive(Clone, Debug)]
pub struct PackedWeightsF32 {
    packed_by: &'static str,
    lanes: usize,
    shape: [usize; 4],
    data: AlignedVec<f32>,
}

impl PackedWeightsF32 {
    pub(crate) fn new(
        packed_by: &'static str,
        lanes: usize,
        shape: [usize; 4],
        weights: &[f32],
    ) -> Result<Self, KernelError> {
        let [out_channels, in_channels, height, width] = shape;
        check_weights(shape, weights.len())?;
        let blocks = out_channels.div_ceil(lanes);
        let len = checked_len(
            "packed weights",
            &[blocks, lanes, in_channels, height, width],
        )?;
        let mut packed = Self {
            packed_by,
            lanes,
            shape,
            data: AlignedVec::zeros(len),
        };
        let taps = packed.taps();
        let area = height * width;
        let data = packed.data.as_mut_slice();
        for (o, kernel) in weights.chunks_exact(taps).enumerate() {
            let block = (o / lanes) * taps * lanes + o % lanes;
            for (c, plane) in kernel.chunks_exact(area).enumerate() {
                for (position, &weight) in plane.iter().enumerate() {
                    data[block + (position * in_channels + c) * lanes] = weight;
                }
            }
        }
        Ok(packed)
    }

    /// OIHW shape of the layer.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Name of the kernel that packed the weights.
    pub fn packed_by(&self) -> &'static str {
        self.packed_by
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Terms of one output, and so vectors of one block.
    pub(crate) fn taps(&self) -> usize {
        self.shape[1] * self.shape[2] * self.shape[3]
    }

    /// Blocks of `lanes` output channels.
    pub(crate) fn blocks(&self) -> usize {
        self.shape[0].div_ceil(self.lanes)
    }

    /// The vectors of one block, `taps * lanes` floats.
    pub(crate) fn block(&self, block: usize) -> &[f32] {
        let len = self.taps() * self.lanes;
        &self.data.as_slice()[block * len..(block + 1) * len]
    }
}
