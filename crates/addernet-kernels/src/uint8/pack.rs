//! Weights in the order in which the tile kernel reads them.

use super::{
    fours::{FourWeights, KERNELS},
    simd::{MAX_LANES, SimdU8},
    triples::TripleWeights,
};
use crate::{
    KernelError,
    aligned::AlignedVec,
    error::{check_taps, check_weights},
    geometry::checked_len,
};

/// How a kernel lays out weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Output channels of a vector.
    lanes: usize,
    /// Input channels of a vector.
    group: usize,
    /// In which place of a vector each output channel is.
    order: [usize; MAX_LANES],
    /// Whether the sums start with the negative sums of the weights.
    max_identity: bool,
}

impl Layout {
    pub(crate) const fn of<S: SimdU8>() -> Self {
        Self {
            lanes: S::LANES,
            group: S::GROUP,
            order: S::ORDER,
            max_identity: S::MAX_IDENTITY,
        }
    }
}

/// One layer's u8 weights, rearranged for the kernels of one layout.
///
/// The layout is `[out_channels / lanes][height][width][in_channels / group][lanes][group]`: a vector
/// holds a group of neighbouring input channels of one tap for `lanes` neighbouring output channels, in the
/// layout's order. Missing channels at the end of either axis are zeros.
#[derive(Clone, Debug)]
pub struct PackedWeightsU8 {
    packed_by: &'static str,
    layout: Layout,
    shape: [usize; 4],
    data: AlignedVec<u8>,
    /// `−Σw` of each output channel, missing ones included; empty if the layout does not need it.
    bias: AlignedVec<i32>,
    /// The weights in another order, instead of `data`, if sums are looked up.
    looked_up: Option<LookedUp>,
}

/// Weights in the order in which sums are looked up.
#[derive(Clone, Debug)]
pub(crate) enum LookedUp {
    /// Three terms at a time.
    Triples(TripleWeights),
    /// Four terms at a time, two from a table.
    Fours(FourWeights),
}

impl PackedWeightsU8 {
    pub(crate) fn new(
        packed_by: &'static str,
        layout: Layout,
        shape: [usize; 4],
        weights: &[u8],
    ) -> Result<Self, KernelError> {
        let [out_channels, in_channels, height, width] = shape;
        check_weights(shape, weights.len())?;
        let (taps, area) = (in_channels * height * width, height * width);
        check_taps(taps)?;
        let Layout {
            lanes,
            group,
            order,
            ..
        } = layout;
        let (blocks, groups) = (out_channels.div_ceil(lanes), in_channels.div_ceil(group));
        let len = checked_len("packed weights", &[blocks, lanes, area, groups, group])?;
        let mut packed = Self {
            packed_by,
            layout,
            shape,
            data: AlignedVec::zeros(len),
            bias: AlignedVec::zeros(blocks * lanes),
            looked_up: None,
        };
        let vector = lanes * group;
        let data = packed.data.as_mut_slice();
        let bias = packed.bias.as_mut_slice();
        for (o, kernel) in weights.chunks_exact(taps).enumerate() {
            let lane = (o / lanes) * area * groups * vector + order[o % lanes] * group;
            for (c, plane) in kernel.chunks_exact(area).enumerate() {
                for (position, &weight) in plane.iter().enumerate() {
                    let at = (position * groups + c / group) * vector + c % group;
                    data[lane + at] = weight;
                }
            }
            if layout.max_identity {
                bias[o] = -kernel.iter().map(|&weight| i32::from(weight)).sum::<i32>();
            }
        }
        Ok(packed)
    }

    /// Checks weights whose sums can be looked up, and has `pack` rearrange them, filled up to so many input channels.
    pub(crate) fn to_look_up(
        packed_by: &'static str,
        layout: Layout,
        shape: [usize; 4],
        weights: &[u8],
        pack: impl FnOnce(usize) -> LookedUp,
    ) -> Result<Self, KernelError> {
        check_weights(shape, weights.len())?;
        let channels = shape[1].next_multiple_of(layout.group);
        let blocks = shape[0].div_ceil(layout.lanes);
        let area = shape[2] * shape[3];
        // A block of 16 kernels may be filled up for fewer.
        let lanes = layout.lanes.max(KERNELS);
        checked_len("packed weights", &[blocks, lanes, area, channels])?;
        Ok(Self {
            packed_by,
            layout,
            shape,
            data: AlignedVec::new(),
            bias: AlignedVec::zeros(blocks * layout.lanes),
            looked_up: Some(pack(channels)),
        })
    }

    /// The weights for looking sums up, if they are.
    pub(crate) fn looked_up(&self) -> Option<&LookedUp> {
        self.looked_up.as_ref()
    }

    /// OIHW shape of the layer.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Name of the kernel that packed the weights.
    pub fn packed_by(&self) -> &'static str {
        self.packed_by
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Vectors of one kernel row: width · groups of input channels.
    pub(crate) fn row_vectors(&self) -> usize {
        self.shape[3] * self.shape[1].div_ceil(self.layout.group)
    }

    /// Blocks of `lanes` output channels.
    pub(crate) fn blocks(&self) -> usize {
        self.shape[0].div_ceil(self.layout.lanes)
    }

    /// The vectors of one block, `height · row_vectors` of them.
    pub(crate) fn block(&self, block: usize) -> &[u8] {
        let len = self.shape[2] * self.row_vectors() * self.layout.lanes * self.layout.group;
        &self.data.as_slice()[block * len..(block + 1) * len]
    }

    /// What the sums of one block lack until it is added: `−Σw` with the max identity, else 0.
    pub(crate) fn bias(&self, block: usize) -> &[i32] {
        &self.bias.as_slice()[block * self.layout.lanes..(block + 1) * self.layout.lanes]
    }

    /// The same of all output channels.
    pub(crate) fn all_biases(&self) -> impl Iterator<Item = i32> {
        self.bias.as_slice().iter().take(self.shape[0]).copied()
    }
}
