//! Counting: from a graph and its precision to operations and memory, node by node.

mod float;
mod integer;
mod memory;

use addernet_graph::{FeatureShape, Graph, Node, NodeId, Op};
use serde::{Deserialize, Serialize};

use crate::error::CostError;
use crate::flow::Flow;
use crate::precision::Precision;
use crate::work::{Counts, Number, Operation, Part, Tally, Work};
pub use memory::Memory;

/// What the adder layers of a graph are computed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// As adder layers.
    Adder,
    /// As the ordinary convolutions that they replace, with weights and activations of the same bits and one
    /// scale for a layer's activations.
    Cnn,
}

/// How Σ|x − w| is computed on integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdderForm {
    /// Term by term: a subtraction and an addition. The sign is not counted: it turns the second addition
    /// into a subtraction.
    #[default]
    Difference,
    /// As 2Σmax(x, w) − Σx − Σw: a maximum and an addition per term, a box filter for Σx; Σw is a constant.
    Maximum,
}

/// Operations and memory of one node, for one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeWork {
    /// The node. What runs together with a layer (BN, and writing its values) is counted there.
    pub node: String,
    /// What it computes: its name in model files; `conv` for an adder layer that is counted as one.
    pub kind: String,
    /// Whether it is an adder layer of the graph.
    pub adder: bool,
    /// Numbers of operations.
    #[serde(flatten)]
    pub counts: Counts,
    /// The operations by purpose, kind and width.
    pub work: Vec<Work>,
    /// Bytes stored and moved.
    pub memory: Memory,
}

/// Operations and memory of a whole network, for one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkWork {
    /// What the adder layers are computed as.
    pub network: Network,
    /// The nodes that have something to do, in topological order.
    pub nodes: Vec<NodeWork>,
    /// Multiplications, additions and comparisons of all layers' terms: what papers count.
    pub taps: Counts,
    /// Those of everything.
    pub all: Counts,
    /// Bytes stored and moved by all nodes.
    pub memory: Memory,
    /// Most bytes of activations that are needed at the same time.
    pub peak_activation_bytes: u64,
}

/// Counts what `graph` costs as `network` in the numbers of `precision`.
///
/// Padded taps count, as in the published formula y = −Σ|x − w| over all taps.
///
/// # Errors
/// If the precision does not fit the graph.
///
/// ```
/// use addernet_cost::{AdderForm, Network, Precision, count};
/// use addernet_graph::zoo::Architecture;
///
/// let architecture = Architecture::ResNet20;
/// let graph = architecture.graph(architecture.default_input(), 10)?;
/// let cnn = count(&graph, &Precision::Float, Network::Cnn, AdderForm::Difference)?;
/// assert_eq!(cnn.taps.multiplications, 40_813_184);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn count(
    graph: &Graph,
    precision: &Precision,
    network: Network,
    form: AdderForm,
) -> Result<NetworkWork, CostError> {
    let flow = Flow::of(graph);
    let nodes = match precision {
        Precision::Float => float::count(graph, &flow, network),
        Precision::Integer(_) => {
            integer::Counter::new(graph, &flow, precision.layers(graph)?, network, form).count()
        }
    };
    let peak_activation_bytes = memory::peak(graph, &flow, &nodes.stored);
    let (mut all, mut memory) = (Tally::default(), Memory::default());
    let mut counted = Vec::new();
    for (node, (tally, used)) in graph.nodes().iter().zip(nodes.per_node) {
        all.extend(&tally.work);
        memory.add(&used);
        if tally.work.is_empty() && used == Memory::default() {
            continue;
        }
        counted.push(NodeWork {
            node: node.name().to_owned(),
            kind: kind(node, network),
            adder: node.adder().is_some(),
            counts: Counts::of(&tally.work),
            work: tally.work,
            memory: used,
        });
    }
    let of_taps = all.work.iter().filter(|work| work.part == Part::Taps);
    let taps = Counts::of(of_taps);
    Ok(NetworkWork {
        network,
        nodes: counted,
        taps,
        all: Counts::of(&all.work),
        memory,
        peak_activation_bytes,
    })
}

fn kind(node: &Node, network: Network) -> String {
    match (node.op(), network) {
        (Op::AdderConv(_), Network::Cnn) => "conv".to_owned(),
        (op, _) => op.kind().to_owned(),
    }
}

/// What counting finds.
struct Counted {
    /// Per node of the graph.
    per_node: Vec<(Tally, Memory)>,
    /// Bytes of what is kept of each node's values: map and codes.
    stored: Vec<u64>,
}

/// The extents of a layer with taps.
pub(crate) struct LayerSize {
    /// Terms of one sum.
    pub(crate) taps: u64,
    /// Sums.
    pub(crate) outputs: u64,
    /// Output channels.
    pub(crate) channels: u64,
    pub(crate) weights: u64,
    pub(crate) bias: bool,
}

impl LayerSize {
    /// Of a node that has taps.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let outputs = node.shape().values() as u64;
        Some(match node.op() {
            Op::AdderConv(conv) | Op::Conv(conv) => {
                let taps = (conv.in_channels * conv.kernel[0] * conv.kernel[1]) as u64;
                Self {
                    taps,
                    outputs,
                    channels: conv.out_channels as u64,
                    weights: taps * conv.out_channels as u64,
                    bias: conv.bias,
                }
            }
            Op::Linear {
                in_features,
                out_features,
                bias,
            } => Self {
                taps: *in_features as u64,
                outputs,
                channels: *out_features as u64,
                weights: (in_features * out_features) as u64,
                bias: *bias,
            },
            _ => return None,
        })
    }

    /// Terms of all sums; at most 2^30 sums of 2^30 terms.
    pub(crate) fn terms(&self) -> u64 {
        self.taps * self.outputs
    }
}

/// Bits that a sum of so many terms needs beyond a term's own.
pub(crate) fn sum_bits(terms: u64) -> u32 {
    u64::BITS - terms.saturating_sub(1).leading_zeros()
}

/// Adds the work of a pooling layer: windows of `window` places.
fn pool(tally: &mut Tally, number: Number, bits: u32, max: bool, window: u64, outputs: u64) {
    let steps = window.saturating_sub(1).saturating_mul(outputs);
    if max {
        tally.add(Part::Pooling, Operation::Compare, number, [bits; 2], steps);
        return;
    }
    let wide = match number {
        Number::Float => bits,
        Number::Integer => bits + sum_bits(window),
    };
    tally.add(Part::Pooling, Operation::Add, number, [wide; 2], steps);
    if window > 1 {
        // The mean is a product with 1/window, rounded where it is of integers.
        let factor = [wide, bits];
        tally.add(Part::Pooling, Operation::Multiply, number, factor, outputs);
        if number == Number::Integer {
            let bits = [wide + bits; 2];
            tally.add(Part::Pooling, Operation::Add, number, bits, outputs);
        }
    }
}

/// The pooling window of a node in places, and whether its maximum is taken.
fn pool_window(node: &Node, input: FeatureShape) -> Option<(u64, bool)> {
    match node.op() {
        Op::MaxPool(pool) => Some(((pool.kernel[0] * pool.kernel[1]) as u64, true)),
        Op::AvgPool(pool) => Some(((pool.kernel[0] * pool.kernel[1]) as u64, false)),
        Op::GlobalAvgPool => Some(((input.height * input.width) as u64, false)),
        _ => None,
    }
}

/// Values of a node for one image.
fn values(graph: &Graph, id: NodeId) -> u64 {
    graph.nodes()[id].shape().values() as u64
}

/// Whole bytes that so many values of `bits` bits take when packed.
fn bytes(values: u64, bits: u32) -> u64 {
    values.saturating_mul(u64::from(bits)).div_ceil(8)
}
