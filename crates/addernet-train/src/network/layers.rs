//! The layers with parameters, and the operations of the others.

use addernet_graph::{ConvAttributes, Model, Node, Op, Parameters, PoolAttributes};
use burn::module::{Module, Param, ParamId};
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};
use ndarray::{ArrayD, IxDyn};

use super::norm::BatchNorm;
use super::{NetworkOptions, unknown};
use crate::error::TrainError;
use crate::layer::AdderConv2d;
use crate::op::AdderConvOptions;

/// A node's parameters.
#[derive(Module, Debug)]
pub(super) enum Layer {
    /// An adder convolution.
    Adder(AdderConv2d),
    /// An ordinary convolution or a linear layer.
    Matrix(Matrix),
    /// Batch normalisation.
    Norm(BatchNorm),
}

/// Weights and bias of an ordinary layer.
#[derive(Module, Debug)]
pub(super) struct Matrix {
    /// `[out, in, height, width]`; a linear layer is 1x1.
    weight: Param<Tensor<4>>,
    bias: Option<Param<Tensor<1>>>,
}

impl Layer {
    /// The layer of `node`, if it has parameters.
    pub(super) fn new(
        model: &Model,
        node: &Node,
        options: NetworkOptions,
        device: &Device,
    ) -> Result<Option<Self>, TrainError> {
        let vector = |suffix: &str| -> Result<Tensor<1>, TrainError> {
            let values = model.values(node, suffix)?.to_vec();
            let len = values.len();
            Ok(Tensor::from_data(TensorData::new(values, [len]), device))
        };
        let kernels = |suffix: &str, shape: [usize; 4]| -> Result<_, TrainError> {
            let values = model.values(node, suffix)?.to_vec();
            let tensor = Tensor::<4>::from_data(TensorData::new(values, shape), device);
            Ok(Param::from_tensor(tensor))
        };
        let bias = |present: bool| -> Result<_, TrainError> {
            present
                .then(|| Ok(Param::from_tensor(vector("bias")?)))
                .transpose()
        };
        Ok(match *node.op() {
            Op::AdderConv(attributes) => Some(Layer::Adder(AdderConv2d {
                weight: kernels("adder", attributes.weight_shape())?,
                bias: bias(attributes.bias)?,
                options: AdderConvOptions {
                    stride: attributes.stride,
                    padding: attributes.padding,
                    eta: options.eta,
                    kernel: options.kernel,
                },
            })),
            Op::Conv(attributes) => Some(Layer::Matrix(Matrix {
                weight: kernels("weight", attributes.weight_shape())?,
                bias: bias(attributes.bias)?,
            })),
            Op::Linear {
                in_features,
                out_features,
                bias: has_bias,
            } => Some(Layer::Matrix(Matrix {
                weight: kernels("weight", [out_features, in_features, 1, 1])?,
                bias: bias(has_bias)?,
            })),
            Op::BatchNorm { eps, .. } => Some(Layer::Norm(BatchNorm::new(
                [vector("weight")?, vector("bias")?],
                [vector("running_mean")?, vector("running_var")?],
                eps.into(),
                options.bn_momentum,
            ))),
            _ if node.parameters().next().is_some() => return Err(unknown(node)),
            _ => None,
        })
    }

    /// Writes the parameters under their full names.
    pub(super) fn store(&self, node: &Node, into: &mut Parameters) -> Result<(), TrainError> {
        let mut put = |suffix: &str, data: TensorData| -> Result<(), TrainError> {
            let name = node.parameter(suffix);
            let shape = node.parameters().find(|(n, _)| *n == name);
            let values = data.as_slice::<f32>().map(<[f32]>::to_vec).ok();
            let array = shape
                .zip(values)
                .and_then(|((_, shape), v)| ArrayD::from_shape_vec(IxDyn(&shape), v).ok());
            into.insert(name, array.ok_or_else(|| unknown(node))?);
            Ok(())
        };
        let (weight, bias, suffix) = match self {
            Layer::Adder(layer) => (&layer.weight, &layer.bias, "adder"),
            Layer::Matrix(layer) => (&layer.weight, &layer.bias, "weight"),
            Layer::Norm(norm) => {
                put("weight", norm.weight.to_data())?;
                put("bias", norm.bias.to_data())?;
                put("running_mean", norm.mean())?;
                return put("running_var", norm.variance());
            }
        };
        put(suffix, weight.to_data())?;
        match bias {
            Some(bias) => put("bias", bias.to_data()),
            None => Ok(()),
        }
    }

    /// Full names and identifiers of what is learned.
    pub(super) fn learned(&self, node: &Node) -> Vec<(String, ParamId)> {
        let (suffix, weight, bias) = match self {
            Layer::Adder(layer) => ("adder", layer.weight.id, layer.bias.as_ref()),
            Layer::Matrix(layer) => ("weight", layer.weight.id, layer.bias.as_ref()),
            Layer::Norm(norm) => ("weight", norm.weight.id, Some(&norm.bias)),
        };
        let bias = bias.map(|bias| (node.parameter("bias"), bias.id));
        [(node.parameter(suffix), weight)]
            .into_iter()
            .chain(bias)
            .collect()
    }
}

/// Runs an operation that wants its channels second on maps that have them last.
fn channels_second(x: Tensor<4>, run: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    run(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
}

pub(super) fn convolve(x: Tensor<4>, layer: &Matrix, attributes: &ConvAttributes) -> Tensor<4> {
    let &ConvAttributes {
        kernel,
        stride,
        padding,
        ..
    } = attributes;
    // On a single pixel it is a matrix product, without the rearrangements.
    let [_, height, width, _] = x.dims();
    if [kernel, [height, width], stride] == [[1, 1]; 3] && padding == [0, 0] {
        return linear(x, layer);
    }
    let bias = layer.bias.as_ref().map(Param::val);
    let options = ConvOptions::new(stride, padding, [1, 1], 1);
    channels_second(x, |x| conv2d(x, layer.weight.val(), bias, options))
}

/// `[N, 1, 1, in]` gives `[N, 1, 1, out]`.
pub(super) fn linear(x: Tensor<4>, layer: &Matrix) -> Tensor<4> {
    let [batch, _, _, inputs] = x.dims();
    let [outputs, ..] = layer.weight.dims();
    let weight = layer.weight.val().reshape([outputs, inputs]);
    let y = x.reshape([batch, inputs]).matmul(weight.transpose());
    let y = match &layer.bias {
        Some(bias) => y + bias.val().reshape([1, outputs]),
        None => y,
    };
    y.reshape([batch, 1, 1, outputs])
}

pub(super) fn max_pool(x: Tensor<4>, pool: &PoolAttributes) -> Tensor<4> {
    let options = MaxPoolOptions::new(pool.kernel)
        .with_stride(pool.stride)
        .with_padding(pool.padding);
    channels_second(x, |x| max_pool2d(x, options))
}

pub(super) fn average_pool(x: Tensor<4>, pool: &PoolAttributes) -> Tensor<4> {
    let options = AvgPoolOptions::new(pool.kernel)
        .with_stride(pool.stride)
        .with_padding(pool.padding);
    channels_second(x, |x| avg_pool2d(x, options))
}

/// In PyTorch's order: channel, row, column.
pub(super) fn flatten(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    x.permute([0, 3, 1, 2])
        .reshape([batch, 1, 1, channels * height * width])
}
