//! The float executor: runs a model on a batch of images, with hooks on every node.
//!
//! Activations are NHWC. Each adder layer runs on the L1 operator chosen at run time
//! ([`addernet_kernels`]); the rest is plain arithmetic on [`ndarray`] arrays.

mod conv;
mod elementwise;
mod pool;

pub use elementwise::affine;

use addernet_kernels::{AdderKernelF32, ConvGeometry, PackedWeightsF32};
use ndarray::{Array2, Array4};

use crate::error::GraphError;
use crate::graph::{Node, NodeId};
use crate::model::Model;
use crate::op::{ConvAttributes, Op};
use crate::shape::FeatureShape;

/// Error of a hook; the executor adds the node's name.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// Sees every node's inputs and output, and may compute a node itself.
///
/// All methods do nothing by default. Calibration observes inputs, analysis compares outputs, and
/// simulated quantization replaces the adder layers, all on this one executor.
pub trait Hook {
    /// Called before `node` runs, with its input activations (NHWC).
    ///
    /// # Errors
    /// Whatever stops the run.
    fn inputs(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<(), HookError> {
        let _ = (id, node, inputs);
        Ok(())
    }

    /// Computes `node` in the executor's place, or leaves it to the executor with `None`.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn replace(
        &mut self,
        id: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<Option<Array4<f32>>, HookError> {
        let _ = (id, node, inputs);
        Ok(None)
    }

    /// Called with the output of `node` (NHWC).
    ///
    /// # Errors
    /// Whatever stops the run.
    fn output(&mut self, id: NodeId, node: &Node, output: &Array4<f32>) -> Result<(), HookError> {
        let _ = (id, node, output);
        Ok(())
    }
}

/// The hook that does nothing.
impl Hook for () {}

/// A node's parameters in the form its computation wants.
enum Prepared {
    /// Nothing to prepare.
    Plain,
    /// Packed weights and the bias (length O, or empty).
    Adder(PackedWeightsF32, Vec<f32>),
    /// Weights as a (kh·kw·c) x o matrix and the bias (length O, or empty).
    Matrix(Array2<f32>, Vec<f32>),
    /// Per-channel factor and offset.
    Affine(Vec<f32>, Vec<f32>),
}

/// Runs one model. Preparing it packs the weights; running it is `&self` and thread-safe.
pub struct Executor<'m> {
    model: &'m Model,
    kernel: &'static dyn AdderKernelF32,
    prepared: Vec<Prepared>,
    last_uses: Vec<NodeId>,
}

impl<'m> Executor<'m> {
    /// Prepares `model` for the L1 operator `kernel`.
    ///
    /// # Errors
    /// If a parameter is missing or the operator refuses a layer.
    pub fn new(model: &'m Model, kernel: &'static dyn AdderKernelF32) -> Result<Self, GraphError> {
        let prepared = model
            .graph()
            .nodes()
            .iter()
            .map(|node| prepare(model, node, kernel))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            model,
            kernel,
            prepared,
            last_uses: model.graph().last_uses(),
        })
    }

    /// The model that it runs.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// The L1 operator that it uses.
    pub fn kernel(&self) -> &'static dyn AdderKernelF32 {
        self.kernel
    }

    /// Runs a batch of images (N,H,W,C) and returns the logits (N, classes).
    ///
    /// # Errors
    /// If the images do not have the graph's input shape.
    pub fn run(&self, images: Array4<f32>) -> Result<Array2<f32>, GraphError> {
        self.run_with(images, &mut ())
    }

    /// Runs a batch under a hook and returns the output (N, H·W·C of the last node).
    ///
    /// # Errors
    /// If the images do not have the graph's input shape, or the hook fails.
    pub fn run_with(
        &self,
        images: Array4<f32>,
        hook: &mut dyn Hook,
    ) -> Result<Array2<f32>, GraphError> {
        let graph = self.model.graph();
        check_images(graph.input_shape(), &images)?;
        let count = images.dim().0;
        let mut slots: Vec<Option<Array4<f32>>> = vec![None; graph.nodes().len()];
        slots[0] = Some(images);
        if let Some(input) = &slots[0] {
            let node = &graph.nodes()[0];
            hook.output(0, node, input)
                .map_err(|source| hook_error(node, source))?;
        }
        for (id, node) in graph.nodes().iter().enumerate().skip(1) {
            let output = self.step(id, node, &mut slots, hook)?;
            hook.output(id, node, &output)
                .map_err(|source| hook_error(node, source))?;
            for &input in node.inputs() {
                if self.last_uses[input] == id {
                    slots[input] = None;
                }
            }
            slots[id] = Some(output);
        }
        let output = slots
            .pop()
            .flatten()
            .ok_or_else(|| self.lost(graph.output()))?;
        let features = graph.output().shape().values();
        output
            .into_shape_with_order((count, features))
            .map_err(|_| self.lost(graph.output()))
    }

    /// Computes one node on inputs (N,H,W,C) of the caller's choice: for passes in an order of their own.
    ///
    /// # Errors
    /// If there is no such node, it is the image itself, or the inputs do not have its inputs' shapes.
    pub fn node(&self, id: NodeId, inputs: &[&Array4<f32>]) -> Result<Array4<f32>, GraphError> {
        let graph = self.model.graph();
        let node = graph.nodes().get(id).unwrap_or(graph.output());
        let count = inputs.first().map_or(0, |x| x.dim().0);
        let fits = |(x, &from): (&&Array4<f32>, &NodeId)| {
            let FeatureShape {
                channels,
                height,
                width,
            } = graph.nodes()[from].shape();
            x.dim() == (count, height, width, channels) && x.is_standard_layout()
        };
        if id >= graph.nodes().len()
            || count == 0
            || inputs.len() != node.inputs().len()
            || !inputs.iter().zip(node.inputs()).all(fits)
        {
            return Err(GraphError::InvalidNode {
                node: node.name().to_owned(),
                reason: "it was asked for on inputs of other shapes than its own".into(),
            });
        }
        match node.op() {
            Op::Flatten | Op::Relu | Op::Add | Op::BatchNorm { .. } => {
                self.elementwise(id, node, inputs[0].clone(), inputs.get(1).copied())
            }
            _ => self.windowed(id, node, inputs[0]),
        }
    }

    fn step(
        &self,
        id: NodeId,
        node: &Node,
        slots: &mut [Option<Array4<f32>>],
        hook: &mut dyn Hook,
    ) -> Result<Array4<f32>, GraphError> {
        let inputs = node
            .inputs()
            .iter()
            .map(|&input| slots[input].as_ref().ok_or_else(|| self.lost(node)))
            .collect::<Result<Vec<_>, _>>()?;
        hook.inputs(id, node, &inputs)
            .map_err(|source| hook_error(node, source))?;
        let replaced = hook
            .replace(id, node, &inputs)
            .map_err(|source| hook_error(node, source))?;
        if let Some(output) = replaced {
            let expected = inputs.first().map_or(0, |x| x.dim().0);
            return check_replacement(node, expected, output);
        }
        if let (&Op::Flatten | &Op::Relu | &Op::Add | &Op::BatchNorm { .. }, [first, ..]) =
            (node.op(), node.inputs())
        {
            // In place where nothing reads the input any more: these layers are bound by memory.
            let first = *first;
            let twice = node
                .inputs()
                .iter()
                .filter(|&&input| input == first)
                .count()
                > 1;
            let x = if self.last_uses[first] == id && !twice {
                slots[first].take()
            } else {
                slots[first].clone()
            };
            let x = x.ok_or_else(|| self.lost(node))?;
            let second = node
                .inputs()
                .get(1)
                .and_then(|&input| slots[input].as_ref());
            return self.elementwise(id, node, x, second);
        }
        self.windowed(id, node, inputs[0])
    }

    fn elementwise(
        &self,
        id: NodeId,
        node: &Node,
        mut x: Array4<f32>,
        second: Option<&Array4<f32>>,
    ) -> Result<Array4<f32>, GraphError> {
        match (node.op(), &self.prepared[id], second) {
            (Op::Relu, _, _) => elementwise::relu(&mut x),
            (Op::BatchNorm { .. }, Prepared::Affine(factor, offset), _) => {
                elementwise::affine(&mut x, factor, offset);
            }
            (Op::Add, _, Some(y)) => elementwise::add(&mut x, y),
            (Op::Flatten, _, _) => x = elementwise::flatten(&x),
            _ => return Err(self.lost(node)),
        }
        Ok(x)
    }

    fn windowed(
        &self,
        id: NodeId,
        node: &Node,
        x: &Array4<f32>,
    ) -> Result<Array4<f32>, GraphError> {
        match (node.op(), &self.prepared[id]) {
            (Op::AdderConv(attributes), Prepared::Adder(packed, bias)) => {
                let mut y = adder_conv(self.kernel, node, attributes, x, packed)?;
                if !bias.is_empty() {
                    elementwise::add_channels(&mut y, bias);
                }
                Ok(y)
            }
            (Op::Conv(attributes), Prepared::Matrix(weight, bias)) => {
                Ok(conv::forward(x, attributes, node.shape(), weight, bias))
            }
            (Op::Linear { .. }, Prepared::Matrix(weight, bias)) => {
                let FeatureShape { channels, .. } = node.shape();
                let attributes = ConvAttributes::square(weight.nrows(), channels, 1, 1, 0);
                Ok(conv::forward(x, &attributes, node.shape(), weight, bias))
            }
            (Op::MaxPool(pool), _) => Ok(pool::max(x, pool, node.shape())),
            (Op::AvgPool(pool), _) => Ok(pool::average(x, pool, node.shape())),
            (Op::GlobalAvgPool, _) => Ok(pool::global_average(x)),
            _ => Err(self.lost(node)),
        }
    }

    fn lost(&self, node: &Node) -> GraphError {
        GraphError::InvalidNode {
            node: node.name().to_owned(),
            reason: "the executor has no value for it: its parameters or inputs were not prepared"
                .into(),
        }
    }
}

/// Runs the L1 operator on one layer: `x` (N,H,W,C) gives (N,H',W',O).
///
/// # Errors
/// If the operator refuses the shapes; the error names `node`.
pub fn adder_conv(
    kernel: &dyn AdderKernelF32,
    node: &Node,
    attributes: &ConvAttributes,
    x: &Array4<f32>,
    packed: &PackedWeightsF32,
) -> Result<Array4<f32>, GraphError> {
    let failed = |source| GraphError::Kernel {
        node: node.name().to_owned(),
        source,
    };
    let (batch, height, width, _) = x.dim();
    let geometry = geometry(attributes, batch, height, width).map_err(failed)?;
    let mut y = Array4::zeros((
        batch,
        geometry.out_height(),
        geometry.out_width(),
        geometry.out_channels(),
    ));
    let x = x.as_standard_layout();
    match (x.as_slice(), y.as_slice_mut()) {
        (Some(x), Some(y)) => kernel.forward(&geometry, x, packed, y).map_err(failed)?,
        _ => {
            return Err(GraphError::InvalidNode {
                node: node.name().to_owned(),
                reason: "activations are not contiguous".into(),
            });
        }
    }
    Ok(y)
}

/// The operator's geometry of a layer with these attributes on maps of `height` x `width`.
///
/// # Errors
/// If an extent is zero or a size overflows.
pub fn geometry(
    attributes: &ConvAttributes,
    batch: usize,
    height: usize,
    width: usize,
) -> Result<ConvGeometry, addernet_kernels::KernelError> {
    ConvGeometry::new(
        [batch, height, width, attributes.in_channels],
        attributes.out_channels,
        attributes.kernel,
        attributes.stride,
        attributes.padding,
    )
}

fn prepare(
    model: &Model,
    node: &Node,
    kernel: &'static dyn AdderKernelF32,
) -> Result<Prepared, GraphError> {
    let bias = |present: bool| -> Result<Vec<f32>, GraphError> {
        if present {
            Ok(model.values(node, "bias")?.to_vec())
        } else {
            Ok(Vec::new())
        }
    };
    Ok(match node.op() {
        Op::AdderConv(attributes) => {
            let packed = pack(kernel, node, attributes, model.values(node, "adder")?)?;
            Prepared::Adder(packed, bias(attributes.bias)?)
        }
        Op::Conv(attributes) => {
            let weight = model.values(node, "weight")?;
            Prepared::Matrix(
                conv::weight_matrix(weight, attributes),
                bias(attributes.bias)?,
            )
        }
        Op::Linear {
            in_features,
            out_features,
            bias: has_bias,
        } => {
            let attributes = ConvAttributes::square(*in_features, *out_features, 1, 1, 0);
            let weight = model.values(node, "weight")?;
            Prepared::Matrix(conv::weight_matrix(weight, &attributes), bias(*has_bias)?)
        }
        Op::BatchNorm { eps, .. } => {
            let [weight, bias, mean, var] =
                ["weight", "bias", "running_mean", "running_var"].map(|s| model.values(node, s));
            let (factor, offset) =
                elementwise::batch_norm_affine(weight?, bias?, mean?, var?, *eps);
            Prepared::Affine(factor, offset)
        }
        _ => Prepared::Plain,
    })
}

/// Packs the weights (OIHW) of one adder layer for `kernel`.
///
/// # Errors
/// If the operator refuses the shapes; the error names `node`.
pub fn pack(
    kernel: &dyn AdderKernelF32,
    node: &Node,
    attributes: &ConvAttributes,
    weights: &[f32],
) -> Result<PackedWeightsF32, GraphError> {
    kernel
        .pack(attributes.weight_shape(), weights)
        .map_err(|source| GraphError::Kernel {
            node: node.name().to_owned(),
            source,
        })
}

fn check_images(expected: FeatureShape, images: &Array4<f32>) -> Result<(), GraphError> {
    let (count, height, width, channels) = images.dim();
    if (height, width, channels) == (expected.height, expected.width, expected.channels)
        && count > 0
    {
        return Ok(());
    }
    Err(GraphError::InputShape {
        expected: expected.to_string(),
        got: format!("{count} of {height}x{width}x{channels}"),
    })
}

fn check_replacement(
    node: &Node,
    count: usize,
    output: Array4<f32>,
) -> Result<Array4<f32>, GraphError> {
    let FeatureShape {
        channels,
        height,
        width,
    } = node.shape();
    if output.dim() == (count, height, width, channels) {
        return Ok(output);
    }
    let reason = format!(
        "a hook replaced it by an output of shape {:?}",
        output.dim()
    );
    Err(GraphError::InvalidNode {
        node: node.name().to_owned(),
        reason,
    })
}

fn hook_error(node: &Node, source: HookError) -> GraphError {
    GraphError::Hook {
        node: node.name().to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
