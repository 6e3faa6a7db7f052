//! The adder convolution as an operation of Burn, with its own backward pass: on the CPU (Flex) here, on GPUs in `gpu/`.

use std::fmt;
use std::sync::OnceLock;

use addernet_kernels::{AdderKernelF32, ConvGeometry, KernelError, WeightGradient, select};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};

type FlexTensor = FloatTensor<Flex>;

/// The published learning rate factor η of adder layers (Chen et al., CVPR 2020, section 3.3).
pub const PUBLISHED_ETA: f32 = 0.2;

/// Below this the norm of a gradient counts as this: a layer without gradient stays as it is.
pub(crate) const SMALLEST_NORM: f64 = 1e-12;

/// How an adder convolution moves over its input, and how its weights' gradient is scaled.
#[derive(Clone, Copy)]
pub struct AdderConvOptions {
    /// Stride `[vertical, horizontal]`, at least 1.
    pub stride: [usize; 2],
    /// Zero padding on each side `[above and below, left and right]`.
    pub padding: [usize; 2],
    /// η: the gradient of the weights is scaled to the norm η·√(number of weights). `None` leaves it as it is.
    pub eta: Option<f32>,
    /// The variant of the operator on the CPU.
    pub kernel: &'static dyn AdderKernelF32,
}

impl AdderConvOptions {
    /// These strides and paddings, [`PUBLISHED_ETA`], and the operator's best variant for this CPU
    /// (or the one that `$ADDERNET_KERNEL` names, if there is one of that name).
    pub fn new(stride: [usize; 2], padding: [usize; 2]) -> Self {
        Self {
            stride,
            padding,
            eta: Some(PUBLISHED_ETA),
            kernel: default_kernel(),
        }
    }

    pub(crate) fn geometry(
        &self,
        x: [usize; 4],
        w: [usize; 4],
    ) -> Result<ConvGeometry, KernelError> {
        let [out_channels, channels, height, width] = w;
        if x[3] != channels {
            return Err(KernelError::WrongLength {
                what: "a pixel of the input",
                expected: channels,
                actual: x[3],
            });
        }
        ConvGeometry::new(x, out_channels, [height, width], self.stride, self.padding)
    }
}

impl fmt::Debug for AdderConvOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdderConvOptions")
            .field("stride", &self.stride)
            .field("padding", &self.padding)
            .field("eta", &self.eta)
            .field("kernel", &self.kernel.name())
            .finish()
    }
}

/// The best variant of the operator; one always runs.
pub(crate) fn default_kernel() -> &'static dyn AdderKernelF32 {
    static KERNEL: OnceLock<&'static dyn AdderKernelF32> = OnceLock::new();
    *KERNEL.get_or_init(|| match select(None) {
        Ok(kernel) => kernel,
        // The environment names one that does not run here.
        Err(_) => addernet_kernels::available()[0],
    })
}

/// The backends that the adder convolution runs on.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait AdderBackend: burn::backend::Backend {
    /// `y = −Σ|x − w|` of `x` (N,H,W,C) and `w` (O,C,Kh,Kw): (N,H',W',O).
    fn adder_conv(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        options: AdderConvOptions,
    ) -> FloatTensor<Self>;
}

/// The adder convolution `y[n,i,j,o] = −Σ_{c,u,v} |x[n, i·s+u−p, j·s+v−p, c] − w[o,c,u,v]|` of a batch of maps `x`
/// (N,H,W,C) with kernels `w` (O,C,Kh,Kw); a padded position has the value 0. Gives (N,H',W',O).
///
/// Its gradients are those that AdderNets are trained with, not its derivatives (Chen et al., CVPR 2020,
/// equations 5, 6 and 10), where g is the gradient of y:
///
/// - `∂w = Σ g·(x − w)`, scaled to the norm `η·√(number of weights)` unless [`AdderConvOptions::eta`] is `None`;
/// - `∂x = Σ_o g·clamp(w − x, −1, 1)`.
///
/// # Panics
/// As Burn's own operations do, if the shapes do not fit (another number of channels, a window larger than the
/// padded map, a stride of 0), the tensors are not of f32, or they are on another backend than Flex and, with the feature
/// `gpu`, wgpu.
pub fn adder_conv2d(x: Tensor<4>, w: Tensor<4>, options: AdderConvOptions) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as AdderBackend>::adder_conv(
        x.into_dispatch(),
        w.into_dispatch(),
        options,
    ))
}

/// A backend's three passes; tensors are contiguous, but for the gradient of the output.
pub(crate) trait Passes: burn::backend::Backend {
    /// `y = −Σ|x − w|`.
    fn forward(
        x: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        options: AdderConvOptions,
    ) -> FloatTensor<Self>;

    /// `[∂x, ∂w]`, those of the two that are `needed`.
    fn gradients(
        x: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: AdderConvOptions,
        needed: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2];

    /// The same values, one after the other in memory.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl AdderBackend for Flex {
    fn adder_conv(x: FlexTensor, w: FlexTensor, options: AdderConvOptions) -> FlexTensor {
        Self::forward(&Self::contiguous(x), &Self::contiguous(w), options)
    }
}

#[cfg(feature = "gpu")]
impl AdderBackend for burn::backend::Cube {
    fn adder_conv(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        options: AdderConvOptions,
    ) -> FloatTensor<Self> {
        Self::forward(&Self::contiguous(x), &Self::contiguous(w), options)
    }
}

impl<B: Passes, C: CheckpointStrategy> AdderBackend for Autodiff<B, C> {
    fn adder_conv(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        options: AdderConvOptions,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (w, w_node) = w.into_parts();
        let (x, w) = (B::contiguous(x), B::contiguous(w));
        let y = B::forward(&x, &w, options);
        match AdderConvBackward
            .prepare::<C>([x_node, w_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(Saved::<B> { x, w, options }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct AdderConvBackward;

/// What the backward pass needs of the forward pass; tensors share their memory.
#[derive(Clone, Debug)]
struct Saved<B: Passes> {
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    options: AdderConvOptions,
}

impl<B: Passes> Backward<B, 2> for AdderConvBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, w_node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let Saved { x, w, options } = ops.state;
        let needed = [x_node.is_some(), w_node.is_some()];
        let [grad_x, grad_w] = B::gradients(&x, &w, grad, options, needed);
        for (node, grad) in [(x_node, grad_x), (w_node, grad_w)] {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl Passes for Flex {
    fn forward(x: &FlexTensor, w: &FlexTensor, options: AdderConvOptions) -> FlexTensor {
        expect(forward(x, w, options))
    }

    fn gradients(
        x: &FlexTensor,
        w: &FlexTensor,
        grad: FlexTensor,
        options: AdderConvOptions,
        needed: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let grad = grad.to_contiguous();
        let input = || expect(grad_input(x, w, &grad, options));
        let weight = || expect(grad_weight(x, w, &grad, options));
        // The weights' gradient is summed up on one thread, the input's on all.
        if needed == [true; 2] && rayon::current_num_threads() > 1 {
            let (grad_w, grad_x) = rayon::join(weight, input);
            return [Some(grad_x), Some(grad_w)];
        }
        [needed[0].then(input), needed[1].then(weight)]
    }

    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        tensor.to_contiguous()
    }
}

#[expect(
    clippy::panic,
    reason = "Burn's operations return tensors, and panic on shapes that do not fit; the documentation says so"
)]
pub(crate) fn expect<T>(result: Result<T, KernelError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

fn shape(tensor: &FlexTensor) -> [usize; 4] {
    tensor.shape().dims()
}

/// The values of a contiguous tensor.
fn values<'t>(what: &'static str, tensor: &'t FlexTensor) -> Result<&'t [f32], KernelError> {
    tensor.as_slice().ok_or(KernelError::WrongLength {
        what,
        expected: tensor.shape().num_elements(),
        actual: 0,
    })
}

fn tensor(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn forward(
    x: &FlexTensor,
    w: &FlexTensor,
    options: AdderConvOptions,
) -> Result<FlexTensor, KernelError> {
    let geometry = options.geometry(shape(x), shape(w))?;
    let packed = options
        .kernel
        .pack(geometry.weight_shape(), values("weights of f32", w)?)?;
    let mut y = vec![0.0; geometry.out_len()];
    options
        .kernel
        .forward(&geometry, values("input of f32", x)?, &packed, &mut y)?;
    let [batch, out] = [geometry.batch(), geometry.out_channels()];
    Ok(tensor(
        y,
        [batch, geometry.out_height(), geometry.out_width(), out],
    ))
}

fn grad_input(
    x: &FlexTensor,
    w: &FlexTensor,
    grad: &FlexTensor,
    options: AdderConvOptions,
) -> Result<FlexTensor, KernelError> {
    let geometry = options.geometry(shape(x), shape(w))?;
    let mut grad_x = vec![0.0; geometry.in_len()];
    options.kernel.grad_input(
        &geometry,
        values("input of f32", x)?,
        values("weights of f32", w)?,
        values("gradient of f32", grad)?,
        &mut grad_x,
    )?;
    Ok(tensor(grad_x, shape(x)))
}

fn grad_weight(
    x: &FlexTensor,
    w: &FlexTensor,
    grad: &FlexTensor,
    options: AdderConvOptions,
) -> Result<FlexTensor, KernelError> {
    let geometry = options.geometry(shape(x), shape(w))?;
    let mut grad_w = vec![0.0; geometry.weight_len()];
    options.kernel.grad_weight(
        &geometry,
        values("input of f32", x)?,
        values("weights of f32", w)?,
        values("gradient of f32", grad)?,
        WeightGradient::FullPrecision,
        &mut grad_w,
    )?;
    if let Some(eta) = options.eta {
        normalise(&mut grad_w, eta);
    }
    Ok(tensor(grad_w, shape(w)))
}

/// Scales the gradient to the norm η·√len (Chen et al., CVPR 2020, equation 10); one of norm 0 stays.
fn normalise(grad: &mut [f32], eta: f32) {
    let squares: f64 = grad.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
    let factor = f64::from(eta) * (grad.len() as f64).sqrt() / squares.sqrt().max(SMALLEST_NORM);
    grad.iter_mut()
        .for_each(|g| *g = (f64::from(*g) * factor) as f32);
}
