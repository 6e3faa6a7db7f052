//! 32-bit floating point.

use addernet_graph::{Graph, NodeId, Op};

use super::{Counted, LayerSize, Network, pool, pool_window, values};
use crate::flow::Flow;
use crate::work::{Number, Operation, Part};

/// Bits of a number.
const BITS: [u32; 2] = [32, 32];
/// Bytes of a number.
const BYTES: u64 = 4;

pub(super) fn count(graph: &Graph, flow: &Flow, network: Network) -> Counted {
    let nodes = graph.nodes();
    let mut counted = Counted {
        per_node: vec![Default::default(); nodes.len()],
        stored: vec![0; nodes.len()],
    };
    for (id, node) in nodes.iter().enumerate() {
        let (tally, memory) = &mut counted.per_node[id];
        let mut add = |part, operation, count| {
            tally.add(part, operation, Number::Float, BITS, count);
        };
        let outputs = values(graph, id);
        let input = node.inputs().first().copied();
        match node.op() {
            Op::AdderConv(_) | Op::Conv(_) | Op::Linear { .. } => {
                let Some(size) = LayerSize::of(node) else {
                    continue;
                };
                let adder = node.adder().is_some() && network == Network::Adder;
                let first = match adder {
                    true => Operation::Add,
                    false => Operation::Multiply,
                };
                add(Part::Taps, first, size.terms());
                add(Part::Taps, Operation::Accumulate, size.terms());
                // The factor of a BN is in an ordinary layer's weights; |x − w| has no such place.
                let bn = has_bn(graph, flow, id);
                if bn && adder {
                    add(Part::Rescale, Operation::Multiply, size.outputs);
                }
                if bn || size.bias {
                    add(Part::Rescale, Operation::Add, size.outputs);
                }
                let constants = u64::from(bn && adder) + u64::from(bn || size.bias);
                memory.weight_bytes = size.weights * BYTES;
                memory.constant_bytes = constants * size.channels * BYTES;
            }
            Op::BatchNorm { channels, .. } if flow.head[id].is_none() => {
                add(Part::Rescale, Operation::Multiply, outputs);
                add(Part::Rescale, Operation::Add, outputs);
                memory.constant_bytes = 2 * *channels as u64 * BYTES;
            }
            Op::Relu => add(Part::Relu, Operation::Compare, outputs),
            Op::Add => add(Part::Residual, Operation::Add, outputs),
            _ => {
                let shape = nodes[input.unwrap_or(0)].shape();
                if let Some((window, max)) = pool_window(node, shape) {
                    pool(tally, Number::Float, BITS[0], max, window, outputs);
                }
            }
        }
        traffic(graph, flow, id, &mut counted);
    }
    counted
}

/// What node `id` reads and its chain writes.
fn traffic(graph: &Graph, flow: &Flow, id: NodeId, counted: &mut Counted) {
    let node = &graph.nodes()[id];
    if flow.source[id] != id {
        return;
    }
    for &input in node.inputs() {
        let from = flow.source[input];
        // Within a chain values stay in registers.
        if flow.is_stored(from) {
            let read = &mut counted.per_node[id].1.read_bytes;
            *read = read.saturating_add(values(graph, from) * BYTES);
        }
    }
    if flow.is_stored(id) {
        let bytes = values(graph, id) * BYTES;
        counted.stored[id] = bytes;
        if id > 0 {
            let writer = flow.head[id].unwrap_or(id);
            counted.per_node[writer].1.written_bytes += bytes;
        }
    }
}

/// Whether a BN follows layer `id` in its chain.
fn has_bn(graph: &Graph, flow: &Flow, id: NodeId) -> bool {
    flow.readers[id].iter().any(|&reader| {
        flow.head[reader] == Some(id) && matches!(graph.nodes()[reader].op(), Op::BatchNorm { .. })
    })
}
