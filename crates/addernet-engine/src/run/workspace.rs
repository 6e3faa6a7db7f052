//! The memory of one image on its way through the network.

use addernet_kernels::AlignedVec;

use crate::program::{CodesLayout, Program};

/// Sums that go through the first-level cache at a time.
const SUMS: usize = 4096;

/// All buffers that a thread needs, allocated once.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) maps: Vec<AlignedVec<i16>>,
    pub(crate) codes: Vec<AlignedVec<u8>>,
    /// Rows of sums on their way from the operator to the next layer.
    pub(crate) sums: Vec<i32>,
    /// The sums of a whole layer of several groups.
    pub(crate) layer_sums: Vec<i32>,
    /// One window of a map.
    pub(crate) window: Vec<i16>,
    /// The sums of the last layer.
    pub(crate) wide: Vec<i32>,
}

impl Workspace {
    pub(crate) fn new(program: &Program) -> Self {
        let mut map_lens = Vec::new();
        for map in &program.maps {
            if map_lens.len() <= map.slot {
                map_lens.resize(map.slot + 1, 0);
            }
            map_lens[map.slot] = map.shape.values().max(map_lens[map.slot]);
        }
        let maps = map_lens.into_iter().map(AlignedVec::zeros).collect();
        let mut codes: Vec<AlignedVec<u8>> = Vec::new();
        for spec in &program.codes {
            if codes.len() <= spec.slot {
                codes.resize_with(spec.slot + 1, AlignedVec::default);
            }
            if codes[spec.slot].is_empty() {
                codes[spec.slot] = bordered(&spec.layout);
            }
        }
        Self {
            maps,
            codes,
            sums: Vec::new(),
            layer_sums: Vec::new(),
            window: Vec::new(),
            wide: Vec::new(),
        }
    }
}

/// A map of codes with its border filled; nothing inside it is written but real channels.
fn bordered(layout: &CodesLayout) -> AlignedVec<u8> {
    let mut codes = AlignedVec::zeros(layout.len());
    for pixel in codes.chunks_exact_mut(layout.pixel()) {
        pixel[..layout.shape.channels].copy_from_slice(&layout.pad);
    }
    codes
}

/// Room for as many rows of `row` sums as stay in the first-level cache, or, where a pass over the weights
/// costs more than that cache is worth, in the second-level one.
pub(crate) fn sums_len(row: usize, rows: usize, weight_bytes: usize) -> usize {
    let budget = SUMS.max(weight_bytes.min(1 << 18) / size_of::<i32>());
    row * (budget / row).clamp(1, rows)
}
