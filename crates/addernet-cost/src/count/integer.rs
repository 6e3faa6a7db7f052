//! Integers, as docs/INTEGER.md lays them down.

use std::collections::{HashMap, HashSet};

use addernet_graph::{ConvAttributes, Graph, Node, NodeId, Op};

use super::{
    AdderForm, Counted, LayerSize, Memory, Network, bytes, pool, pool_window, sum_bits, values,
};
use crate::flow::Flow;
use crate::precision::LayerPrecision;
use crate::work::{Number, Operation, Part, Tally};

/// Bits of a map value.
const MAP: u32 = 16;
/// Bits of a fixed-point factor.
const FACTOR: u32 = 16;
/// Bits of a pixel, and of a weight of the ordinary layers.
const BYTE: u32 = 8;
/// Bits of a logit.
const LOGIT: u32 = 32;
/// Bytes per channel of a layer: factor and offset of 32 bits, shift of 8.
const CHANNEL_BYTES: u64 = 9;
/// Bytes per scale that codes are made with: factor of 16 bits, shift and smallest code of 8.
const SCALE_BYTES: u64 = 4;

/// Codes of a node's values: what their step is worth, and their bits. As a CNN they have one step per map.
type CodeSet = (Option<u64>, u32);

/// The counting in progress.
pub(super) struct Counter<'a> {
    graph: &'a Graph,
    flow: &'a Flow,
    layers: HashMap<NodeId, &'a LayerPrecision>,
    network: Network,
    form: AdderForm,
    /// Codes that layers want of each node.
    requests: Vec<Vec<CodeSet>>,
    counted: Counted,
}

impl<'a> Counter<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        flow: &'a Flow,
        layers: HashMap<NodeId, &'a LayerPrecision>,
        network: Network,
        form: AdderForm,
    ) -> Self {
        let count = graph.nodes().len();
        let mut counter = Self {
            graph,
            flow,
            layers,
            network,
            form,
            requests: vec![Vec::new(); count],
            counted: Counted {
                per_node: vec![Default::default(); count],
                stored: vec![0; count],
            },
        };
        for (id, node, _) in graph.adder_nodes() {
            let from = flow.source[node.inputs()[0]];
            for set in counter.code_sets(id) {
                if !counter.requests[from].contains(&set) {
                    counter.requests[from].push(set);
                }
            }
        }
        counter
    }

    /// The codes that layer `id` reads; none if it reads a map.
    fn code_sets(&self, id: NodeId) -> Vec<CodeSet> {
        let Some(layer) = self.layers.get(&id) else {
            return Vec::new();
        };
        let bits = u32::from(layer.activation_bits);
        match self.network {
            Network::Adder => {
                let set = |scale: &f64| (Some(scale.to_bits()), bits);
                layer.scales.iter().map(set).collect()
            }
            Network::Cnn => vec![(None, bits)],
        }
    }

    /// Whether a map of node `id` is kept: something other than a layer with codes reads it, or it is the result.
    fn needs_map(&self, id: NodeId) -> bool {
        let readers = &self.flow.readers[id];
        readers.is_empty()
            || readers
                .iter()
                .any(|reader| !self.layers.contains_key(reader))
    }

    /// Whether a layer's sums become codes at once: they are all that is read, and nothing was added.
    fn is_direct(&self, id: NodeId) -> bool {
        self.flow.head[id].is_some()
            && !self.flow.adds[id]
            && !self.needs_map(id)
            && self.requests[id].len() == 1
    }

    /// Bits of a value of node `id`'s map.
    fn map_bits(&self, id: NodeId) -> u32 {
        match id {
            0 => BYTE,
            id if self.flow.end[id] == self.graph.nodes().len() - 1 => LOGIT,
            _ => MAP,
        }
    }

    pub(super) fn count(mut self) -> Counted {
        let mut made = HashSet::new();
        for (id, node) in self.graph.nodes().iter().enumerate() {
            let outputs = values(self.graph, id);
            let mut tally = Tally::default();
            let mut memory = Memory::default();
            let mut add = |part, operation, bits: u32| {
                tally.add(part, operation, Number::Integer, [bits; 2], outputs);
            };
            match node.op() {
                Op::AdderConv(_) | Op::Conv(_) | Op::Linear { .. } => {
                    self.layer(id, node, &mut tally, &mut memory);
                }
                Op::BatchNorm { channels, .. } if self.flow.head[id].is_none() => {
                    tally.add(
                        Part::Rescale,
                        Operation::Multiply,
                        Number::Integer,
                        [MAP, FACTOR],
                        outputs,
                    );
                    tally.add(
                        Part::Rescale,
                        Operation::Add,
                        Number::Integer,
                        [MAP + FACTOR; 2],
                        outputs,
                    );
                    memory.constant_bytes = *channels as u64 * CHANNEL_BYTES;
                }
                // The clamp of the codes is a ReLU already.
                Op::Relu if self.is_direct(self.flow.end[id]) => {}
                Op::Relu => add(Part::Relu, Operation::Compare, MAP),
                Op::Add => add(Part::Residual, Operation::Add, MAP),
                _ => {
                    let input = node.inputs().first().copied().unwrap_or(0);
                    let shape = self.graph.nodes()[input].shape();
                    if let Some((window, max)) = pool_window(node, shape) {
                        pool(&mut tally, Number::Integer, MAP, max, window, outputs);
                    }
                }
            }
            self.requantize(id, node, &mut made, &mut tally, &mut memory);
            self.traffic(id, node, &mut memory);
            let (total, used) = &mut self.counted.per_node[id];
            total.extend(&tally.work);
            used.add(&memory);
        }
        self.counted
    }

    /// A layer's terms, and what its sums are multiplied with.
    fn layer(&self, id: NodeId, node: &Node, tally: &mut Tally, memory: &mut Memory) {
        let Some(size) = LayerSize::of(node) else {
            return;
        };
        let mut add = |part, operation, bits, count| {
            tally.add(part, operation, Number::Integer, bits, count);
        };
        let terms = size.terms();
        let extra = sum_bits(size.taps);
        let (weight_bits, mut sum) = match (self.layers.get(&id), self.network) {
            (Some(layer), Network::Adder) => {
                let grid = u32::from(layer.grid_bits);
                let first = match self.form {
                    AdderForm::Difference => Operation::Add,
                    AdderForm::Maximum => Operation::Compare,
                };
                add(Part::Taps, first, [grid; 2], terms);
                add(
                    Part::Taps,
                    Operation::Accumulate,
                    [grid + extra, grid],
                    terms,
                );
                (u32::from(layer.weight_bits), grid + extra)
            }
            (layer, _) => {
                let [weight, activation] = match layer {
                    Some(layer) => [layer.weight_bits, layer.activation_bits].map(u32::from),
                    None => [BYTE, self.map_bits(self.flow.source[node.inputs()[0]])],
                };
                let sum = weight + activation + extra;
                add(Part::Taps, Operation::Multiply, [weight, activation], terms);
                add(
                    Part::Taps,
                    Operation::Accumulate,
                    [sum, weight.max(activation)],
                    terms,
                );
                (weight, sum)
            }
        };
        if let (Op::AdderConv(conv), AdderForm::Maximum, Network::Adder) =
            (node.op(), self.form, self.network)
        {
            sum += 1;
            self.box_filter(id, node, conv, sum, tally);
        }
        let mut add = |operation, bits| {
            tally.add(
                Part::Rescale,
                operation,
                Number::Integer,
                bits,
                size.outputs,
            );
        };
        add(Operation::Multiply, [sum, FACTOR]);
        add(Operation::Add, [sum + FACTOR; 2]);
        memory.weight_bytes = bytes(size.weights, weight_bits);
        memory.constant_bytes = size.channels * CHANNEL_BYTES;
    }

    /// Σx under every window, once per scale, and its subtraction from every sum.
    fn box_filter(
        &self,
        id: NodeId,
        node: &Node,
        conv: &ConvAttributes,
        sum: u32,
        tally: &mut Tally,
    ) {
        let Some(layer) = self.layers.get(&id) else {
            return;
        };
        let input = self.graph.nodes()[node.inputs()[0]].shape();
        let (scales, grid) = (layer.scales.len() as u64, u32::from(layer.grid_bits));
        let mut add = |bits: u32, count: u64| {
            tally.add(
                Part::BoxFilter,
                Operation::Add,
                Number::Integer,
                [bits; 2],
                count,
            );
        };
        let shape = node.shape();
        let [rows, columns] = [shape.height as u64, shape.width as u64];
        let [kernel_rows, kernel_columns] = conv.kernel.map(|k| k as u64);
        // Over the channels, then along the rows of all windows, then down the columns.
        let channels = (conv.in_channels as u64 - 1) * (input.height * input.width) as u64;
        add(grid + sum_bits(conv.in_channels as u64), scales * channels);
        let rows_read = (rows - 1) * conv.stride[0] as u64 + kernel_rows;
        let along = rows_read * columns * (kernel_columns - 1);
        let down = rows * columns * (kernel_rows - 1);
        add(sum - 1, scales * along.saturating_add(down));
        add(sum, shape.values() as u64);
    }

    /// Codes of what layer `id` reads: made once, by the first layer that wants them.
    fn requantize(
        &self,
        id: NodeId,
        node: &Node,
        made: &mut HashSet<(NodeId, CodeSet)>,
        tally: &mut Tally,
        memory: &mut Memory,
    ) {
        let sets = self.code_sets(id);
        let (Some(&input), false) = (node.inputs().first(), sets.is_empty()) else {
            return;
        };
        let from = self.flow.source[input];
        let count = values(self.graph, from);
        for set in sets {
            let (_, bits) = set;
            memory.read_bytes = memory.read_bytes.saturating_add(bytes(count, bits));
            if !made.insert((from, set)) {
                continue;
            }
            memory.written_bytes = memory.written_bytes.saturating_add(bytes(count, bits));
            let mut add = |operation, bits, count| {
                tally.add(Part::Requantize, operation, Number::Integer, bits, count);
            };
            if !self.is_direct(from) {
                add(Operation::Multiply, [MAP, FACTOR], count);
                add(Operation::Add, [MAP + FACTOR; 2], count);
                memory.constant_bytes += SCALE_BYTES;
            }
            add(Operation::Compare, [MAP; 2], 2 * count);
        }
    }

    /// The maps that node `id` reads and its chain writes; and all that is kept of its values.
    fn traffic(&mut self, id: NodeId, node: &Node, memory: &mut Memory) {
        if self.flow.source[id] != id {
            return;
        }
        if !self.layers.contains_key(&id) {
            for &input in node.inputs() {
                let from = self.flow.source[input];
                if self.flow.is_stored(from) {
                    let read = bytes(values(self.graph, from), self.map_bits(from));
                    memory.read_bytes = memory.read_bytes.saturating_add(read);
                }
            }
        }
        if !self.flow.is_stored(id) {
            return;
        }
        let count = values(self.graph, id);
        let codes = self.requests[id]
            .iter()
            .map(|&(_, bits)| bytes(count, bits));
        let mut stored: u64 = codes.fold(0, u64::saturating_add);
        if self.needs_map(id) {
            let map = bytes(count, self.map_bits(id));
            stored = stored.saturating_add(map);
            // The image is there already.
            if id > 0 {
                let writer = self.flow.head[id].unwrap_or(id);
                let written = match writer == id {
                    true => &mut memory.written_bytes,
                    false => &mut self.counted.per_node[writer].1.written_bytes,
                };
                *written = written.saturating_add(map);
            }
        }
        self.counted.stored[id] = stored;
    }
}
