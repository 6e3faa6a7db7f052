//! The adder layer for models written with Burn.

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor};

use crate::op::{AdderConvOptions, PUBLISHED_ETA, adder_conv2d, default_kernel};

/// Sizes of an [`AdderConv2d`]; [`init`](Self::init) makes the layer.
///
/// ```
/// use addernet_train::{AdderConv2d, AdderConv2dConfig};
/// use burn::module::Module;
/// use burn::nn::{BatchNorm, BatchNormConfig};
/// use burn::tensor::{Device, Distribution, Tensor, activation::relu};
///
/// /// An adder layer, and the batch normalisation that must follow it.
/// #[derive(Module, Debug)]
/// struct Block {
///     conv: AdderConv2d,
///     bn: BatchNorm,
/// }
///
/// impl Block {
///     fn forward(&self, x: Tensor<4>) -> Tensor<4> {
///         relu(self.bn.forward(self.conv.forward(x)))
///     }
/// }
///
/// let device = Device::flex().autodiff();
/// let block = Block {
///     conv: AdderConv2dConfig::new(3, 8, [3, 3]).with_padding([1, 1]).init(&device),
///     bn: BatchNormConfig::new(8).init(&device),
/// };
/// let x = Tensor::<4>::random([2, 3, 16, 16], Distribution::Default, &device);
/// let y = block.forward(x); // N,C,H,W, as everywhere in Burn
/// assert_eq!(y.dims(), [2, 8, 16, 16]);
///
/// let grads = y.powi_scalar(2).mean().backward();
/// let grad = block.conv.weight.val().grad(&grads).expect("the layer is trained");
/// // Adder layers learn at a rate of their own: the norm of each gradient is η·√(number of weights).
/// let norm = grad.powi_scalar(2).sum().into_scalar::<f32>().sqrt();
/// assert!((norm - 0.2 * (8.0_f32 * 3.0 * 9.0).sqrt()).abs() < 1e-3);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AdderConv2dConfig {
    channels: [usize; 2],
    kernel_size: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    bias: bool,
    eta: Option<f32>,
}

impl AdderConv2dConfig {
    /// A layer from `in_channels` to `out_channels` with kernels of `[height, width]`, stride 1, no padding, no
    /// bias (the batch normalisation behind it has one) and η = [`PUBLISHED_ETA`].
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: [usize; 2]) -> Self {
        Self {
            channels: [in_channels, out_channels],
            kernel_size,
            stride: [1, 1],
            padding: [0, 0],
            bias: false,
            eta: Some(PUBLISHED_ETA),
        }
    }

    /// Another stride `[vertical, horizontal]`.
    pub fn with_stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// Zero padding on each side `[above and below, left and right]`.
    pub fn with_padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// With or without a bias per output channel.
    pub fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Another η, or `None` to leave the gradient of the weights as it is.
    pub fn with_eta(self, eta: Option<f32>) -> Self {
        Self { eta, ..self }
    }

    /// The layer, its weights drawn from a normal distribution of mean 0 and deviation 1 as in the authors' code, its
    /// bias 0.
    pub fn init(&self, device: &Device) -> AdderConv2d {
        let [inputs, outputs] = self.channels;
        let [height, width] = self.kernel_size;
        let weight = Tensor::random(
            [outputs, inputs, height, width],
            Distribution::Normal(0.0, 1.0),
            device,
        );
        AdderConv2d {
            weight: Param::from_tensor(weight),
            bias: self
                .bias
                .then(|| Param::from_tensor(Tensor::zeros([outputs], device))),
            options: AdderConvOptions {
                stride: self.stride,
                padding: self.padding,
                eta: self.eta,
                kernel: default_kernel(),
            },
        }
    }
}

/// An adder convolution (Chen et al., CVPR 2020): `y = −Σ|x − w|`, plus a bias if there is one.
///
/// It belongs in front of a batch normalisation: all its outputs are negative, and large. [`AdderConv2dConfig`] has an
/// example; [`adder_conv2d`] says what its gradients are.
#[derive(Module, Debug)]
pub struct AdderConv2d {
    /// Kernels: `[out channels, in channels, height, width]`.
    pub weight: Param<Tensor<4>>,
    /// One value per output channel, `[out channels]`, or none.
    pub bias: Option<Param<Tensor<1>>>,
    /// Stride, padding, η.
    #[module(skip)]
    pub options: AdderConvOptions,
}

impl AdderConv2d {
    /// A batch `[N, in channels, height, width]` gives `[N, out channels, height', width']` with
    /// `height' = ⌊(height + 2·padding − kernel) / stride⌋ + 1`.
    ///
    /// # Panics
    /// As [`adder_conv2d`].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_nhwc(x.permute([0, 2, 3, 1]))
            .permute([0, 3, 1, 2])
    }

    /// The same with channels last: `[N, height, width, in channels]` gives `[N, height', width', out channels]`. This
    /// is the order that the operator works in.
    ///
    /// # Panics
    /// As [`adder_conv2d`].
    pub fn forward_nhwc(&self, x: Tensor<4>) -> Tensor<4> {
        let y = adder_conv2d(x, self.weight.val(), self.options);
        match &self.bias {
            Some(bias) => {
                let [channels] = bias.dims();
                y + bias.val().reshape([1, 1, 1, channels])
            }
            None => y,
        }
    }
}
