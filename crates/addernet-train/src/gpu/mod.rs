//! The adder convolution on GPUs: kernels in CubeCL's dialect of Rust, compiled for the device at hand (Vulkan, Metal,
//! DirectX 12, WebGPU) by Burn's wgpu backend.
//!
//! | file | holds |
//! |---|---|
//! | `tile.rs` | tiles in shared memory, sizes, grids |
//! | `forward.rs` | `y = −Σ \|x − w\|` |
//! | `grad_input.rs` | `∂x = Σ g·clamp(w − x, −1, 1)` |
//! | `grad_weight.rs` | `∂w = Σ g·(x − w)` and its normalisation |
//! | `peak.rs` | what the device reaches on registers, for comparison |
//!
//! Everything is f32, and the same from run to run. Nothing is read back: a backward pass is a queue of launches.

mod forward;
mod grad_input;
mod grad_weight;
pub(crate) mod peak;
mod tile;

use addernet_kernels::ConvGeometry;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Cube, TensorMetadata};
use burn::tensor::DType;
use burn_cubecl::CubeDevice;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::op::{AdderConvOptions, Passes, SMALLEST_NORM, expect};
use grad_weight::{CHUNK, NORMALISE_UNITS, SUM_SEGMENTS, SUM_WEIGHTS};
use tile::SizesLaunch;

/// Workgroups that keep a large GPU busy: the positions of a weight gradient are divided into so many parts that there
/// are about as many.
const BUSY: usize = 1024;

impl Passes for Cube {
    fn forward(
        x: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        options: AdderConvOptions,
    ) -> FloatTensor<Self> {
        let layer = Layer::new(x, w, options);
        layer.forward(x, w)
    }

    fn gradients(
        x: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: AdderConvOptions,
        [input, weight]: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2] {
        let layer = Layer::new(x, w, options);
        let grad = into_contiguous(grad);
        let grad_x = input.then(|| layer.grad_input(x, w, &grad));
        let grad_w = weight.then(|| layer.grad_weight(x, w, &grad, options.eta));
        [grad_x, grad_w]
    }

    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
        into_contiguous(tensor)
    }
}

/// A layer's sizes.
struct Layer {
    geometry: ConvGeometry,
}

impl Layer {
    fn new(x: &CubeTensor, w: &CubeTensor, options: AdderConvOptions) -> Self {
        let geometry = options.geometry(x.shape().dims(), w.shape().dims());
        Self {
            geometry: expect(geometry),
        }
    }

    /// Lengths fit: a device's buffer has less than 2³² bytes.
    fn sizes(&self) -> SizesLaunch {
        let g = &self.geometry;
        let ([kernel_height, kernel_width], [stride_v, stride_h], [pad_v, pad_h]) =
            (g.kernel(), g.stride(), g.padding());
        SizesLaunch::new(
            g.batch() as u32,
            g.in_height() as u32,
            g.in_width() as u32,
            g.in_channels() as u32,
            g.out_height() as u32,
            g.out_width() as u32,
            g.out_channels() as u32,
            kernel_height as u32,
            kernel_width as u32,
            stride_v as u32,
            stride_h as u32,
            pad_v as u32,
            pad_h as u32,
        )
    }

    fn out_shape(&self) -> [usize; 4] {
        let g = &self.geometry;
        [g.batch(), g.out_height(), g.out_width(), g.out_channels()]
    }

    fn forward(&self, x: &CubeTensor, w: &CubeTensor) -> CubeTensor {
        let g = &self.geometry;
        let y = empty(x, self.out_shape());
        let columns = tile::columns(g.out_channels());
        let positions = g.batch() * g.out_height() * g.out_width();
        let column_tiles = g.out_channels().div_ceil(columns as usize);
        forward::forward::launch(
            &x.client,
            tile::grid(positions, column_tiles),
            tile::units(columns),
            x.clone().into_buffer_arg(),
            // Neighbouring units read neighbouring output channels.
            into_contiguous(permute(w.clone(), &[2, 3, 1, 0])).into_buffer_arg(),
            y.clone().into_buffer_arg(),
            self.sizes(),
            columns,
        );
        y
    }

    fn grad_input(&self, x: &CubeTensor, w: &CubeTensor, grad: &CubeTensor) -> CubeTensor {
        let g = &self.geometry;
        let [stride_v, stride_h] = g.stride();
        let grad_x = empty(x, x.shape().dims());
        let columns = tile::columns(g.in_channels());
        // Of the first phase, which has the most.
        let rows = g.in_height().div_ceil(stride_v) * g.in_width().div_ceil(stride_h);
        let phases = stride_v.min(g.in_height()) * stride_h;
        let column_tiles = g.in_channels().div_ceil(columns as usize);
        grad_input::grad_input::launch(
            &x.client,
            tile::grid(g.batch() * rows, phases * column_tiles),
            tile::units(columns),
            x.clone().into_buffer_arg(),
            into_contiguous(permute(w.clone(), &[2, 3, 0, 1])).into_buffer_arg(),
            grad.clone().into_buffer_arg(),
            grad_x.clone().into_buffer_arg(),
            self.sizes(),
            columns,
        );
        grad_x
    }

    fn grad_weight(
        &self,
        x: &CubeTensor,
        w: &CubeTensor,
        grad: &CubeTensor,
        eta: Option<f32>,
    ) -> CubeTensor {
        let g = &self.geometry;
        let columns = tile::columns(g.out_channels());
        let column_tiles = g.out_channels().div_ceil(columns as usize);
        let rows = g.taps() + 1;
        let row_tiles = rows.div_ceil(tile::ROWS as usize);
        let positions = g.batch() * g.out_height() * g.out_width();
        let chunks = positions.div_ceil(CHUNK as usize);
        let chunks_per_part = chunks.div_ceil((BUSY / (row_tiles * column_tiles)).max(1));
        let part_count = chunks.div_ceil(chunks_per_part);

        let parts = empty(x, [part_count, g.out_channels(), rows, 1]);
        grad_weight::grad_weight_parts::launch(
            &x.client,
            tile::grid(rows, part_count * column_tiles),
            tile::units(columns),
            x.clone().into_buffer_arg(),
            grad.clone().into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            self.sizes(),
            chunks_per_part as u32,
            columns,
            g.in_channels().is_multiple_of(4),
        );

        let grad_w = empty(x, w.shape().dims());
        let len = g.weight_len();
        let groups = len.div_ceil(SUM_WEIGHTS as usize);
        grad_weight::grad_weight_sum::launch(
            &x.client,
            tile::grid_of_tiles(groups, 1),
            CubeDim::new_1d(SUM_WEIGHTS * SUM_SEGMENTS),
            parts.into_buffer_arg(),
            w.clone().into_buffer_arg(),
            grad_w.clone().into_buffer_arg(),
            self.sizes(),
            part_count as u32,
        );
        if let Some(eta) = eta {
            grad_weight::normalise::launch(
                &x.client,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(NORMALISE_UNITS),
                grad_w.clone().into_buffer_arg(),
                len as u32,
                (f64::from(eta) * (len as f64).sqrt()) as f32,
                SMALLEST_NORM as f32,
            );
        }
        grad_w
    }
}

/// A contiguous tensor of zeros.
fn zeros(device: &CubeDevice, shape: [usize; 4]) -> CubeTensor {
    burn_cubecl::ops::numeric::zeros(device.clone(), shape.into(), DType::F32)
}

/// A contiguous tensor without values, on the device of another.
fn empty(like: &CubeTensor, shape: [usize; 4]) -> CubeTensor {
    let values: usize = shape.iter().product();
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape.into(),
        like.client.empty(values * size_of::<f32>()),
        like.dtype,
    )
}
