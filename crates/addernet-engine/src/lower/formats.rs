//! Fraction bits of every node's map.

use std::collections::BTreeMap;

use addernet_graph::{Graph, Model, Node, NodeId, Op};
use addernet_quant::QuantizedLayer;

use super::bn::BatchNorm;
use crate::error::EngineError;

/// BN puts out values of mean `bias` and standard deviation |weight|. Maps reach this many standard
/// deviations from the mean (unless the layer's worst case is nearer); what is beyond saturates.
const DEVIATIONS: f64 = 12.0;

/// Fraction bits that a map can have.
const FRACTION: std::ops::RangeInclusive<i32> = -16..=14;

/// The fraction bits of each node's output: a value of v stands for v · 2^−fraction.
///
/// Nodes whose values are added or passed on unchanged share their format: a residual stream has one
/// format throughout, so that additions need no shift.
pub(super) fn fractions(
    model: &Model,
    layers: &BTreeMap<String, QuantizedLayer>,
) -> Result<Vec<i32>, EngineError> {
    let graph = model.graph();
    let bounds = bounds(model, layers)?;
    let classes = classes(graph);
    let mut widest = vec![0.0f64; bounds.len()];
    for (&class, &bound) in classes.iter().zip(&bounds) {
        widest[class] = widest[class].max(bound);
    }
    let fraction = |&class: &NodeId| {
        let bound = widest[class];
        let fits = |f: &i32| bound * exp2(*f) <= f64::from(i16::MAX);
        FRACTION
            .rev()
            .find(fits)
            .ok_or_else(|| EngineError::Overflow {
                node: graph.nodes()[class].name().to_owned(),
                what: "its output",
                worst: bound,
                limit: f64::from(i16::MAX) / exp2(*FRACTION.start()),
            })
    };
    classes.iter().map(fraction).collect()
}

/// 2^exponent, exactly.
pub(crate) fn exp2(exponent: i32) -> f64 {
    let one = (1u64 << exponent.unsigned_abs().min(63)) as f64;
    if exponent < 0 { 1.0 / one } else { one }
}

/// The largest magnitude that each node's output is meant to reach.
fn bounds(
    model: &Model,
    layers: &BTreeMap<String, QuantizedLayer>,
) -> Result<Vec<f64>, EngineError> {
    let nodes = model.graph().nodes();
    let mut bounds: Vec<f64> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let input = |at: usize| node.inputs().get(at).map_or(0.0, |&id| bounds[id]);
        let bound = match node.op() {
            Op::Input => pixel_bound(model),
            Op::AdderConv(_) => match layers.get(node.name()) {
                Some(layer) => adder_bound(layer),
                None => return Err(EngineError::layer(node.name(), "it is not quantized")),
            },
            Op::Conv(_) | Op::Linear { .. } => weighted_bound(model, node, input(0))?,
            Op::BatchNorm { eps, .. } => {
                let bn = BatchNorm::of(model, node, *eps)?;
                let own = |c: usize| bn.offset(c).abs() + bn.gain[c].abs() * input(0);
                let usual = |c: usize| bn.bias[c].abs() + DEVIATIONS * bn.weight[c].abs();
                (0..bn.gain.len())
                    .map(|c| own(c).min(usual(c)))
                    .fold(0.0, f64::max)
            }
            Op::Add => input(0) + input(1),
            _ => input(0),
        };
        bounds.push(bound);
    }
    Ok(bounds)
}

fn pixel_bound(model: &Model) -> f64 {
    let Some(p) = &model.info().preprocessing else {
        return 1.0;
    };
    let bound = |(&mean, &std): (&f32, &f32)| {
        let mean = f64::from(mean);
        mean.abs().max((1.0 - mean).abs()) / f64::from(std)
    };
    p.mean.iter().zip(&p.std).map(bound).fold(0.0, f64::max)
}

/// Σ |m_x·q_x − m_w·q_w| at its worst, for each kernel.
fn adder_bound(layer: &QuantizedLayer) -> f64 {
    let (x, w) = (layer.activation_format, layer.weight_format);
    let (low, high) = (x.units(x.min()), x.units(x.max()));
    let taps = layer.taps();
    let kernel = |(o, codes): (usize, &[i32])| {
        let term = |&code: &i32| {
            let w = w.units(code);
            i64::from((w - low).abs().max((high - w).abs()))
        };
        let sum: i64 = codes.iter().map(term).sum();
        f64::from(layer.group(o).step()) * sum as f64 + f64::from(layer.bias[o]).abs()
    };
    layer
        .codes
        .chunks_exact(taps.max(1))
        .enumerate()
        .map(kernel)
        .fold(0.0, f64::max)
}

/// Σ |w| · bound + |b| of each output, at most.
fn weighted_bound(model: &Model, node: &Node, input: f64) -> Result<f64, EngineError> {
    let weights = model.values(node, "weight")?;
    let bias = match node.op() {
        Op::Conv(conv) if !conv.bias => &[],
        Op::Linear { bias: false, .. } => &[],
        _ => model.values(node, "bias")?,
    };
    let outputs = node.shape().channels;
    let sum = |kernel: &[f32]| kernel.iter().map(|w| f64::from(w.abs())).sum::<f64>() * input;
    let sums = weights
        .chunks_exact((weights.len() / outputs).max(1))
        .map(sum);
    let biases = bias
        .iter()
        .map(|b| f64::from(b.abs()))
        .chain(std::iter::repeat(0.0));
    Ok(sums
        .zip(biases)
        .map(|(sum, bias)| sum + bias)
        .fold(0.0, f64::max))
}

/// For each node the first node of those that share its format.
fn classes(graph: &Graph) -> Vec<NodeId> {
    let mut parent: Vec<NodeId> = (0..graph.nodes().len()).collect();
    fn root(parent: &[NodeId], mut id: NodeId) -> NodeId {
        while parent[id] != id {
            id = parent[id];
        }
        id
    }
    for (id, node) in graph.nodes().iter().enumerate() {
        let shares = match node.op() {
            Op::Relu
            | Op::Add
            | Op::MaxPool(_)
            | Op::AvgPool(_)
            | Op::GlobalAvgPool
            | Op::Flatten => node.inputs(),
            _ => &[],
        };
        for &input in shares {
            let (a, b) = (root(&parent, id), root(&parent, input));
            parent[a.max(b)] = a.min(b);
        }
    }
    (0..parent.len()).map(|id| root(&parent, id)).collect()
}
