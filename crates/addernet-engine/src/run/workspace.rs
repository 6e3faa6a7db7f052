//! The memory of one image on its way through the network.

use crate::program::{CodesLayout, Program};

/// Sums that go through the first-level cache at a time.
const SUMS: usize = 4096;

/// All buffers that a thread needs, allocated once.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) maps: Vec<Vec<i16>>,
    pub(crate) codes: Vec<Vec<u8>>,
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
        let mut maps: Vec<Vec<i16>> = Vec::new();
        for map in &program.maps {
            if maps.len() <= map.slot {
                maps.resize_with(map.slot + 1, Vec::new);
            }
            let len = maps[map.slot].len().max(map.shape.values());
            maps[map.slot].resize(len, 0);
        }
        let mut codes: Vec<Vec<u8>> = Vec::new();
        for spec in &program.codes {
            if codes.len() <= spec.slot {
                codes.resize_with(spec.slot + 1, Vec::new);
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
fn bordered(layout: &CodesLayout) -> Vec<u8> {
    let mut codes = vec![0; layout.len()];
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
