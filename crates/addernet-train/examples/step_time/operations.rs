//! The ordinary operations of a network, each alone with its backward pass.

use std::collections::BTreeMap;

use addernet_graph::zoo::Architecture;
use addernet_graph::{FeatureShape, GraphBuilder, INPUT, Node};
use addernet_train::{Network, NetworkOptions, initial_model};
use burn::tensor::{Device, Distribution, Tensor};
use serde::Serialize;

use crate::{Result, median};

/// Milliseconds of all nodes of a kind in one step.
#[derive(Default, Serialize)]
pub(crate) struct Operation {
    pub(crate) kind: String,
    pub(crate) nodes: usize,
    pub(crate) forward: f64,
    pub(crate) backward: f64,
}

/// The time of everything but adder layers, by kind of operation.
///
/// Each runs as a network of its own on random maps of its shape: what is missing from the sum of a step is what operations cost each other
/// (cold caches, memory taken and given back).
pub(crate) fn operations(architecture: Architecture, batch: usize) -> Result<Vec<Operation>> {
    let graph = architecture.graph(architecture.default_input(), architecture.default_classes())?;
    let nodes = graph.nodes();
    let mut shapes: BTreeMap<String, (FeatureShape, &Node, usize)> = BTreeMap::new();
    for node in nodes.iter().skip(1).filter(|node| node.adder().is_none()) {
        let input = nodes[node.inputs()[0]].shape();
        let key = format!("{:?} {input:?}", node.op());
        shapes.entry(key).or_insert((input, node, 0)).2 += 1;
    }
    let mut kinds: BTreeMap<&str, Operation> = BTreeMap::new();
    for (input, node, count) in shapes.into_values() {
        let [forward, backward] = alone(input, node, batch)?;
        let kind = node.op().kind();
        let total = kinds.entry(kind).or_default();
        total.kind = kind.to_owned();
        total.nodes += count;
        total.forward += count as f64 * forward;
        total.backward += count as f64 * backward;
    }
    let mut all: Vec<Operation> = kinds.into_values().collect();
    all.sort_by(|a, b| (b.forward + b.backward).total_cmp(&(a.forward + a.backward)));
    Ok(all)
}

/// Milliseconds of the passes of a node on inputs of this shape.
fn alone(input: FeatureShape, node: &Node, batch: usize) -> Result<[f64; 2]> {
    let mut builder = GraphBuilder::new("one operation", input);
    let inputs = vec![INPUT; node.inputs().len()];
    builder.add(node.name(), node.op().clone(), &inputs)?;
    let device = Device::flex().autodiff();
    let model = initial_model(builder.build()?, 0)?;
    let network = Network::from_model(&model, NetworkOptions::default(), &device)?;
    let shape = [batch, input.height, input.width, input.channels];
    let images = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    // The first layer's input has no gradient.
    let images = match node.inputs()[0] {
        0 => images,
        _ => images.require_grad(),
    };
    let forward = median(|| {
        drop(network.forward(images.clone()));
        Ok(())
    })?;
    // Its gradient comes from a product with itself, whose own passes are taken off again.
    let outputs = network.forward(images.clone()).detach();
    let gradient = Tensor::random(outputs.dims(), Distribution::Normal(0.0, 1.0), &device);
    let both = median(|| {
        let outputs = network.forward(images.clone());
        drop((outputs * gradient.clone()).sum().backward());
        Ok(())
    })?;
    let outputs = outputs.require_grad();
    let product = median(|| {
        drop((outputs.clone() * gradient.clone()).sum().backward());
        Ok(())
    })?;
    Ok([forward, (both - forward - product).max(0.0)])
}
