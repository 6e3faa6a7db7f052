//! A graph as a Burn module.

mod layers;
mod norm;

use std::collections::HashMap;
use std::sync::Arc;

use addernet_graph::{Graph, GraphError, Model, ModelInfo, Node, NodeId, Op, Parameters};
use addernet_kernels::AdderKernelF32;
use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor, activation::relu};

use crate::error::TrainError;
use crate::op::{PUBLISHED_ETA, default_kernel};
use layers::{Layer, average_pool, convolve, flatten, linear, max_pool};

/// How a [`Network`] learns.
#[derive(Clone, Copy)]
pub struct NetworkOptions {
    /// η of the adder layers: see [`AdderConvOptions::eta`](crate::AdderConvOptions::eta).
    pub eta: Option<f32>,
    /// The share of a batch in BN's running statistics, 0 to 1.
    pub bn_momentum: f64,
    /// The variant of the operator.
    pub kernel: &'static dyn AdderKernelF32,
}

impl Default for NetworkOptions {
    /// η = [`PUBLISHED_ETA`], momentum 0.1 (PyTorch's default), and the best variant for this CPU.
    fn default() -> Self {
        Self {
            eta: Some(PUBLISHED_ETA),
            bn_momentum: 0.1,
            kernel: default_kernel(),
        }
    }
}

/// A [`Graph`] with its parameters as a Burn module: what training works on.
///
/// On a device with autodiff, BN normalises with the statistics of the batch, and updates its running ones; without
/// ([`Module::valid`]) it uses the running ones, as the graph's executor does. Activations are NHWC.
///
/// ```
/// use addernet_graph::{FeatureShape, zoo::Architecture};
/// use addernet_train::{Network, NetworkOptions, initial_model};
/// use burn::tensor::{Device, Distribution, Tensor};
///
/// let graph = Architecture::LeNet5Bn.graph(FeatureShape::new(1, 32, 32), 10)?;
/// let model = initial_model(graph, 0)?;
/// let device = Device::flex().autodiff();
/// let network = Network::from_model(&model, NetworkOptions::default(), &device)?;
/// let images = Tensor::<4>::random([4, 32, 32, 1], Distribution::Default, &device);
/// assert_eq!(network.forward(images).dims(), [4, 10]);
/// let trained = network.to_model()?; // back to the graph, for quantization
/// # Ok::<(), addernet_train::TrainError>(())
/// ```
#[derive(Module, Debug)]
pub struct Network {
    /// One per node that has parameters, in the order of the nodes.
    layers: Vec<Layer>,
    #[module(skip)]
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    graph: Graph,
    info: ModelInfo,
    last_uses: Vec<NodeId>,
}

impl Network {
    /// The module that computes what `model` computes.
    ///
    /// # Errors
    /// If a parameter is missing, or the graph has an operation that cannot be trained.
    pub fn from_model(
        model: &Model,
        options: NetworkOptions,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let graph = model.graph();
        let layers = graph
            .nodes()
            .iter()
            .filter_map(|node| Layer::new(model, node, options, device).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            layers,
            plan: Arc::new(Plan {
                graph: graph.clone(),
                info: model.info().clone(),
                last_uses: graph.last_uses(),
            }),
        })
    }

    /// The graph with the parameters as they are now.
    ///
    /// # Errors
    /// If a parameter is not finite: [`GraphError::NonFinite`], which names it.
    pub fn to_model(&self) -> Result<Model, TrainError> {
        let mut parameters = Parameters::new();
        for (node, layer) in self.parametric() {
            layer.store(node, &mut parameters)?;
        }
        Ok(Model::new(self.plan.graph.clone(), parameters)?.with_info(self.plan.info.clone())?)
    }

    /// The network's structure.
    pub fn graph(&self) -> &Graph {
        &self.plan.graph
    }

    /// Names of the learned parameters with the identifiers that Burn gave them, in the order of the nodes.
    pub fn learned(&self) -> Vec<(String, ParamId)> {
        self.parametric()
            .flat_map(|(node, layer)| layer.learned(node))
            .collect()
    }

    fn parametric(&self) -> impl Iterator<Item = (&Node, &Layer)> {
        let nodes = self.plan.graph.nodes().iter();
        nodes
            .filter(|node| node.parameters().next().is_some())
            .zip(&self.layers)
    }

    /// The logits `[N, classes]` of images `[N, height, width, channels]`.
    ///
    /// # Panics
    /// As Burn's operations do, if the images do not have the graph's input shape.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let graph = &self.plan.graph;
        let [batch, ..] = images.dims();
        let mut layers = self.layers.iter();
        let mut values: HashMap<NodeId, Tensor<4>> = HashMap::from([(0, images)]);
        for (id, node) in graph.nodes().iter().enumerate().skip(1) {
            let layer = match node.parameters().next() {
                Some(_) => layers.next(),
                None => None,
            };
            let inputs = node.inputs().iter().map(|&input| values[&input].clone());
            let inputs: Vec<Tensor<4>> = inputs.collect();
            // A value that nothing reads any more is dropped, so that Burn may work in place.
            for &input in node.inputs() {
                if self.plan.last_uses[input] == id {
                    values.remove(&input);
                }
            }
            values.insert(id, compute(node, layer, inputs));
        }
        let output = values.remove(&(graph.nodes().len() - 1));
        let features = graph.output().shape().values();
        // A graph has at least one node besides its input.
        output
            .unwrap_or_else(|| unreachable_value(graph.output()))
            .reshape([batch, features])
    }
}

fn compute(node: &Node, layer: Option<&Layer>, inputs: Vec<Tensor<4>>) -> Tensor<4> {
    let mut inputs = inputs.into_iter();
    match (node.op(), layer, inputs.next(), inputs.next()) {
        (Op::AdderConv(_), Some(Layer::Adder(adder)), Some(x), _) => adder.forward_nhwc(x),
        (Op::Conv(attributes), Some(Layer::Matrix(layer)), Some(x), _) => {
            convolve(x, layer, attributes)
        }
        (Op::Linear { .. }, Some(Layer::Matrix(layer)), Some(x), _) => linear(x, layer),
        (Op::BatchNorm { .. }, Some(Layer::Norm(norm)), Some(x), _) => norm.forward(x),
        (Op::Relu, _, Some(x), _) => relu(x),
        (Op::Add, _, Some(x), Some(y)) => x + y,
        (Op::MaxPool(pool), _, Some(x), _) => max_pool(x, pool),
        (Op::AvgPool(pool), _, Some(x), _) => average_pool(x, pool),
        (Op::GlobalAvgPool, _, Some(x), _) => x.mean_dim(1).mean_dim(2),
        (Op::Flatten, _, Some(x), _) => flatten(x),
        _ => unreachable_value(node),
    }
}

#[expect(
    clippy::panic,
    reason = "from_model gives every node of a validated graph its layer and its inputs"
)]
fn unreachable_value(node: &Node) -> Tensor<4> {
    panic!("node `{}` has no value", node.name())
}

/// The error for an operation that [`Network`] cannot compute.
fn unknown(node: &Node) -> TrainError {
    TrainError::Graph(GraphError::InvalidNode {
        node: node.name().to_owned(),
        reason: format!("`{}` cannot be trained", node.op().kind()),
    })
}

#[cfg(test)]
mod tests;
