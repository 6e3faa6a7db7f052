//! The network as data: named nodes in topological order, validated once.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::error::GraphError;
use crate::op::{ConvAttributes, Op};
use crate::shape::{self, FeatureShape};

/// Name of the node that stands for the image batch.
pub const INPUT: &str = "input";

/// Index of a node in its graph, in topological order.
pub type NodeId = usize;

/// One operation with its name and the nodes it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    name: String,
    op: Op,
    inputs: Vec<NodeId>,
    shape: FeatureShape,
    non_negative: bool,
}

impl Node {
    /// Unique name: the module path of the PyTorch model (`layer1.0.conv1`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the node computes.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// The nodes whose outputs it reads; all of them come before it.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// Shape of its output for one image.
    pub fn shape(&self) -> FeatureShape {
        self.shape
    }

    /// Whether every value that the node can put out is ≥ 0, whatever its input: it follows from
    /// the structure alone (a ReLU, or pooling, flattening and sums of such nodes).
    pub fn is_non_negative(&self) -> bool {
        self.non_negative
    }

    /// The attributes, if the node is an adder convolution.
    pub fn adder(&self) -> Option<&ConvAttributes> {
        match &self.op {
            Op::AdderConv(attributes) => Some(attributes),
            _ => None,
        }
    }

    /// Full names and shapes of the node's parameters, in PyTorch's order.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        self.op
            .parameters()
            .into_iter()
            .map(|(suffix, shape)| (self.parameter(suffix), shape))
    }

    /// Full name of the parameter `suffix` (`adder`, `weight`, `bias` …) of this node.
    pub fn parameter(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.name)
    }
}

/// A validated network: node 0 is the input, every node reads earlier ones, the last is the output.
///
/// Build one with [`GraphBuilder`] or from a [`GraphDescription`] (its form in model files).
///
/// ```
/// use addernet_graph::{ConvAttributes, FeatureShape, GraphBuilder, Op};
///
/// let mut b = GraphBuilder::new("tiny", FeatureShape::new(3, 8, 8));
/// let conv = b.add("conv1", Op::AdderConv(ConvAttributes::square(3, 4, 3, 1, 1)), &["input"])?;
/// b.add("bn1", Op::BatchNorm { channels: 4, eps: 1e-5 }, &[&conv])?;
/// let graph = b.build()?;
/// assert_eq!(graph.output().shape(), FeatureShape::new(4, 8, 8));
/// # Ok::<(), addernet_graph::GraphError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "GraphDescription", into = "GraphDescription")]
pub struct Graph {
    name: String,
    input: FeatureShape,
    nodes: Vec<Node>,
    by_name: HashMap<String, NodeId>,
}

impl Graph {
    /// The graph's name: the architecture's, for graphs of the zoo.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape of one input image.
    pub fn input_shape(&self) -> FeatureShape {
        self.input
    }

    /// All nodes in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.by_name.get(name).map(|&id| &self.nodes[id])
    }

    /// Position of the node with this name.
    pub fn id(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The last node: the logits, in a classifier.
    pub fn output(&self) -> &Node {
        &self.nodes[self.nodes.len() - 1]
    }

    /// Number of classes: the output's channels.
    pub fn classes(&self) -> usize {
        self.output().shape.channels
    }

    /// The adder convolutions, in topological order.
    pub fn adder_nodes(&self) -> impl Iterator<Item = (NodeId, &Node, &ConvAttributes)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(id, node)| node.adder().map(|a| (id, node, a)))
    }

    /// Names and shapes of all parameters, in the order of the nodes.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        self.nodes.iter().flat_map(Node::parameters)
    }

    /// For each node, the last node that reads it (itself if none does): when its output can go.
    pub fn last_uses(&self) -> Vec<NodeId> {
        let mut last: Vec<NodeId> = (0..self.nodes.len()).collect();
        for (id, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                last[input] = id;
            }
        }
        last
    }

    /// The same network with one node's operation replaced.
    ///
    /// # Errors
    /// If `node` does not exist or the result is not a valid graph.
    pub fn with_op(&self, node: &str, op: Op) -> Result<Graph, GraphError> {
        let mut description = GraphDescription::from(self.clone());
        match description.nodes.iter_mut().find(|n| n.name == node) {
            Some(found) => found.op = op,
            None => {
                return Err(GraphError::InvalidNode {
                    node: node.to_owned(),
                    reason: format!("not a node of `{}`", self.name),
                });
            }
        }
        Graph::try_from(description)
    }
}

/// Adds nodes one by one; each must read nodes already added.
#[derive(Debug)]
pub struct GraphBuilder {
    name: String,
    input: FeatureShape,
    nodes: Vec<Node>,
    by_name: HashMap<String, NodeId>,
}

impl GraphBuilder {
    /// Starts a graph whose images have the shape `input`; the image batch is the node `"input"`.
    pub fn new(name: impl Into<String>, input: FeatureShape) -> Self {
        let node = Node {
            name: INPUT.to_owned(),
            op: Op::Input,
            inputs: Vec::new(),
            shape: input,
            non_negative: false,
        };
        Self {
            name: name.into(),
            input,
            nodes: vec![node],
            by_name: HashMap::from([(INPUT.to_owned(), 0)]),
        }
    }

    /// Adds the node `name` and returns its name, for use as the next node's input.
    ///
    /// # Errors
    /// If the name is empty or taken, an input is unknown, or the shapes do not fit.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: &[&str],
    ) -> Result<String, GraphError> {
        let name = name.into();
        let invalid = |reason: String| GraphError::InvalidNode {
            node: name.clone(),
            reason,
        };
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(invalid(
                "a node's name must not be empty or hold control characters".into(),
            ));
        }
        if self.by_name.contains_key(&name) {
            return Err(invalid("the name is already taken".into()));
        }
        if op == Op::Input {
            return Err(invalid("a graph has one input, the node `input`".into()));
        }
        if op.arity() != inputs.len() {
            let (kind, arity, got) = (op.kind(), op.arity(), inputs.len());
            return Err(invalid(format!("{kind} takes {arity} input(s), got {got}")));
        }
        let inputs = inputs
            .iter()
            .map(|input| {
                self.by_name.get(*input).copied().ok_or_else(|| {
                    invalid(format!("reads `{input}`, which no earlier node is named"))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let shapes: Vec<_> = inputs.iter().map(|&id| self.nodes[id].shape).collect();
        let shape = shape::infer(&name, &op, &shapes, self.input)?;
        let non_negative = match op {
            Op::Relu => true,
            Op::MaxPool(_) | Op::AvgPool(_) | Op::GlobalAvgPool | Op::Flatten | Op::Add => {
                inputs.iter().all(|&id| self.nodes[id].non_negative)
            }
            _ => false,
        };
        self.by_name.insert(name.clone(), self.nodes.len());
        self.nodes.push(Node {
            name: name.clone(),
            op,
            inputs,
            shape,
            non_negative,
        });
        Ok(name)
    }

    /// The finished graph.
    ///
    /// # Errors
    /// If it has no node but the input, a node other than the last is never read, or the input's
    /// shape is out of range.
    pub fn build(self) -> Result<Graph, GraphError> {
        let Self {
            name,
            input,
            nodes,
            by_name,
        } = self;
        let graph = Graph {
            name,
            input,
            nodes,
            by_name,
        };
        let invalid = |reason| GraphError::InvalidGraph {
            graph: graph.name.clone(),
            reason,
        };
        input.check().map_err(invalid)?;
        if graph.nodes.len() < 2 {
            return Err(invalid("it has no node besides the input".into()));
        }
        let last_uses = graph.last_uses();
        if let Some(unread) = (0..graph.nodes.len() - 1).find(|&id| last_uses[id] == id) {
            let name = &graph.nodes[unread].name;
            return Err(invalid(format!(
                "no node reads `{name}`, and it is not the last one"
            )));
        }
        Ok(graph)
    }
}

/// A graph as model files hold it: nodes refer to each other by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphDescription {
    /// The graph's name.
    pub name: String,
    /// Shape of one input image.
    pub input: FeatureShape,
    /// The nodes after the input, in topological order.
    pub nodes: Vec<NodeDescription>,
}

/// A node as model files hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// Unique name.
    pub name: String,
    /// Names of the nodes it reads; `"input"` is the image batch.
    pub inputs: Vec<String>,
    /// What it computes.
    #[serde(flatten)]
    pub op: Op,
}

impl TryFrom<GraphDescription> for Graph {
    type Error = GraphError;

    fn try_from(description: GraphDescription) -> Result<Self, GraphError> {
        let mut builder = GraphBuilder::new(description.name, description.input);
        // Before any shape is derived from it.
        description
            .input
            .check()
            .map_err(|reason| GraphError::InvalidGraph {
                graph: builder.name.clone(),
                reason,
            })?;
        for NodeDescription { name, inputs, op } in description.nodes {
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            builder.add(name, op, &inputs)?;
        }
        builder.build()
    }
}

impl From<Graph> for GraphDescription {
    fn from(graph: Graph) -> Self {
        let names: Vec<String> = graph.nodes.iter().map(|node| node.name.clone()).collect();
        let nodes = graph
            .nodes
            .into_iter()
            .skip(1)
            .map(|node| NodeDescription {
                inputs: node.inputs.iter().map(|&id| names[id].clone()).collect(),
                name: node.name,
                op: node.op,
            })
            .collect();
        GraphDescription {
            name: graph.name,
            input: graph.input,
            nodes,
        }
    }
}

#[cfg(test)]
mod tests;
