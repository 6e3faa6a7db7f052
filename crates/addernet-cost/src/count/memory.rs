//! Bytes that are stored and moved.

use addernet_graph::Graph;
use serde::{Deserialize, Serialize};

use crate::flow::Flow;

/// Bytes stored and moved for one image. Numbers are packed at their width.
///
/// Every weight is read once, every stored map is written once and read once by each layer that needs it: what a
/// layer reads again while it runs comes from its own registers and buffers, and is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Weights.
    pub weight_bytes: u64,
    /// Constants per channel: factors, offsets, shifts.
    pub constant_bytes: u64,
    /// Activations read.
    pub read_bytes: u64,
    /// Activations written.
    pub written_bytes: u64,
}

impl Memory {
    /// Bytes of the model.
    pub fn model_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.constant_bytes)
    }

    /// Bytes of activations moved.
    pub fn activation_bytes(&self) -> u64 {
        self.read_bytes.saturating_add(self.written_bytes)
    }

    pub(crate) fn add(&mut self, other: &Memory) {
        for (sum, value) in [
            (&mut self.weight_bytes, other.weight_bytes),
            (&mut self.constant_bytes, other.constant_bytes),
            (&mut self.read_bytes, other.read_bytes),
            (&mut self.written_bytes, other.written_bytes),
        ] {
            *sum = sum.saturating_add(value);
        }
    }
}

/// Most bytes that are needed at the same time: while a layer runs, what it reads, what it writes, and what
/// later ones will read.
pub(super) fn peak(graph: &Graph, flow: &Flow, stored: &[u64]) -> u64 {
    // Change of what is alive when the chain that ends at a node runs; and after it.
    let count = graph.nodes().len();
    let (mut born, mut freed) = (vec![0u64; count], vec![0u64; count]);
    for (id, &bytes) in stored.iter().enumerate() {
        if bytes == 0 {
            continue;
        }
        let runs = flow.end[id];
        let last = flow.readers[id].iter().map(|&reader| flow.end[reader]);
        born[runs] = born[runs].saturating_add(bytes);
        let last = last.fold(runs, usize::max);
        freed[last] = freed[last].saturating_add(bytes);
    }
    let (mut alive, mut peak) = (0u64, 0u64);
    for (born, freed) in born.into_iter().zip(freed) {
        alive = alive.saturating_add(born);
        peak = peak.max(alive);
        alive = alive.saturating_sub(freed);
    }
    peak
}
