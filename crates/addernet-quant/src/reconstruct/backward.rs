//! Backward passes of the ordinary layers.

use addernet_graph::{ConvAttributes, Model, Node, Op, PoolAttributes};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Array4, ArrayView2};

use super::student::LinearState;
use crate::error::QuantError;

/// Channels at a time: loops over a known number of them become vector instructions.
pub(super) const LANES: usize = 8;

/// Sum of squares.
pub(super) fn power(values: &Array4<f32>) -> f32 {
    let (blocks, rest) = values.as_slice().unwrap_or(&[]).as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for block in blocks {
        (0..LANES).for_each(|lane| sums[lane] += block[lane] * block[lane]);
    }
    sums.into_iter().chain(rest.iter().map(|v| v * v)).sum()
}

/// Adds a gradient to what is there.
pub(super) fn accumulate(to: &mut Option<Array4<f32>>, grad: Array4<f32>) {
    match to {
        Some(sum) => *sum += &grad,
        None => *to = Some(grad),
    }
}

/// Gradients of factor and offset of y = factor·(x − centre) + offset, per channel.
pub(super) fn affine_parameters(
    x: &Array4<f32>,
    centre: &[f32],
    grad: &Array4<f32>,
) -> [Vec<f32>; 2] {
    let channels = x.dim().3;
    let (mut factor, mut offset) = (vec![0.0f32; channels], vec![0.0f32; channels]);
    if let (Some(x), Some(grad)) = (x.as_slice(), grad.as_slice()) {
        for (x, grad) in x.chunks_exact(channels).zip(grad.chunks_exact(channels)) {
            let (xs, last_x) = x.as_chunks::<LANES>();
            let (grads, last_grad) = grad.as_chunks::<LANES>();
            let (centres, last_centre) = centre.as_chunks::<LANES>();
            let (factors, last_factor) = factor.as_chunks_mut::<LANES>();
            let (offsets, last_offset) = offset.as_chunks_mut::<LANES>();
            for ((((x, g), m), f), o) in (xs.iter().zip(grads).zip(centres))
                .zip(factors)
                .zip(offsets)
            {
                for lane in 0..LANES {
                    f[lane] += (x[lane] - m[lane]) * g[lane];
                    o[lane] += g[lane];
                }
            }
            for ((((x, g), m), f), o) in (last_x.iter().zip(last_grad).zip(last_centre))
                .zip(last_factor)
                .zip(last_offset)
            {
                *f += (x - m) * g;
                *o += g;
            }
        }
    }
    [factor, offset]
}

fn rows(x: &Array4<f32>) -> Option<ArrayView2<'_, f32>> {
    let (n, h, w, c) = x.dim();
    ArrayView2::from_shape((n * h * w, c), x.as_slice()?).ok()
}

/// y = x·Wᵀ + b.
pub(super) fn linear(x: &Array4<f32>, state: &LinearState) -> Array4<f32> {
    let outputs = state.bias.len();
    let (n, h, w, inputs) = x.dim();
    let mut y = Array2::from_shape_fn((n * h * w, outputs), |(_, o)| state.bias[o]);
    if let (Some(x), Ok(weight)) = (
        rows(x),
        ArrayView2::from_shape((outputs, inputs), &state.weight),
    ) {
        general_mat_mul(1.0, &x, &weight.t(), 1.0, &mut y);
    }
    y.into_shape_with_order((n, h, w, outputs))
        .unwrap_or_default()
}

/// Gradients of x, and of weight and bias.
pub(super) fn linear_backward(
    x: &Array4<f32>,
    state: &LinearState,
    grad: &Array4<f32>,
) -> (Array4<f32>, [Vec<f32>; 2]) {
    let (outputs, inputs) = (state.bias.len(), x.dim().3);
    let mut grad_x = Array4::zeros(x.dim());
    let mut grad_w = Array2::zeros((outputs, inputs));
    let mut bias = vec![0.0; outputs];
    if let (Some(x), Some(grad), Ok(weight)) = (
        rows(x),
        rows(grad),
        ArrayView2::from_shape((outputs, inputs), &state.weight),
    ) {
        general_mat_mul(1.0, &grad.t(), &x, 0.0, &mut grad_w);
        let mut flat = Array2::zeros((x.nrows(), inputs));
        general_mat_mul(1.0, &grad, &weight, 0.0, &mut flat);
        if let Some(to) = grad_x.as_slice_mut() {
            to.iter_mut().zip(&flat).for_each(|(to, v)| *to = *v);
        }
        for row in grad.rows() {
            bias.iter_mut().zip(row).for_each(|(b, g)| *b += g);
        }
    }
    (grad_x, [grad_w.into_iter().collect(), bias])
}

/// The input gradient of a layer without parameters to tune, from its input, output and output gradient.
pub(super) fn fixed(
    model: &Model,
    node: &Node,
    op: &Op,
    x: &Array4<f32>,
    y: &Array4<f32>,
    mut grad: Array4<f32>,
) -> Result<Array4<f32>, QuantError> {
    Ok(match op {
        Op::Relu => {
            if let (Some(grad), Some(y)) = (grad.as_slice_mut(), y.as_slice()) {
                for (g, &y) in grad.iter_mut().zip(y) {
                    *g = if y > 0.0 { *g } else { 0.0 };
                }
            }
            grad
        }
        Op::GlobalAvgPool => {
            let (n, h, w, c) = x.dim();
            let scale = 1.0 / (h * w) as f32;
            Array4::from_shape_fn((n, h, w, c), |(n, _, _, c)| grad[[n, 0, 0, c]] * scale)
        }
        Op::Flatten => {
            let (_, h, w, _) = x.dim();
            Array4::from_shape_fn(x.dim(), |(n, i, j, c)| grad[[n, 0, 0, (c * h + i) * w + j]])
        }
        Op::MaxPool(pool) => max_pool(x, y, pool, &grad),
        Op::AvgPool(pool) => average_pool(x, pool, &grad),
        Op::Conv(attributes) => convolution(x, attributes, model.values(node, "weight")?, &grad),
        _ => {
            return Err(QuantError::layer(
                node.name(),
                "tuning has no backward pass for it",
            ));
        }
    })
}

/// Calls `visit(output place, input place)` for every pair of places that a window joins.
fn for_windows(
    x: &Array4<f32>,
    grad: &Array4<f32>,
    [kernel, stride, padding]: [[usize; 2]; 3],
    mut visit: impl FnMut([usize; 3], [usize; 2], [usize; 2]),
) {
    let (n, height, width, _) = x.dim();
    let (_, out_height, out_width, _) = grad.dim();
    for n in 0..n {
        for i in 0..out_height {
            for j in 0..out_width {
                for u in 0..kernel[0] {
                    for v in 0..kernel[1] {
                        let row = (i * stride[0] + u).checked_sub(padding[0]);
                        let column = (j * stride[1] + v).checked_sub(padding[1]);
                        if let (Some(row), Some(column)) = (row, column)
                            && row < height
                            && column < width
                        {
                            visit([n, i, j], [row, column], [u, v]);
                        }
                    }
                }
            }
        }
    }
}

/// Each window's gradient goes to its first largest value.
fn max_pool(
    x: &Array4<f32>,
    y: &Array4<f32>,
    pool: &PoolAttributes,
    grad: &Array4<f32>,
) -> Array4<f32> {
    let mut left = grad.clone();
    let mut grad_x = Array4::zeros(x.dim());
    let window = [pool.kernel, pool.stride, pool.padding];
    for_windows(x, grad, window, |[n, i, j], [row, column], _| {
        for c in 0..x.dim().3 {
            if x[[n, row, column, c]] == y[[n, i, j, c]] {
                grad_x[[n, row, column, c]] += std::mem::take(&mut left[[n, i, j, c]]);
            }
        }
    });
    grad_x
}

fn average_pool(x: &Array4<f32>, pool: &PoolAttributes, grad: &Array4<f32>) -> Array4<f32> {
    let scale = 1.0 / (pool.kernel[0] * pool.kernel[1]) as f32;
    let mut grad_x = Array4::zeros(x.dim());
    let window = [pool.kernel, pool.stride, pool.padding];
    for_windows(x, grad, window, |[n, i, j], [row, column], _| {
        for c in 0..x.dim().3 {
            grad_x[[n, row, column, c]] += scale * grad[[n, i, j, c]];
        }
    });
    grad_x
}

fn convolution(
    x: &Array4<f32>,
    conv: &ConvAttributes,
    weight: &[f32],
    grad: &Array4<f32>,
) -> Array4<f32> {
    let [outputs, inputs, height, width] = conv.weight_shape();
    let mut grad_x = Array4::zeros(x.dim());
    let window = [conv.kernel, conv.stride, conv.padding];
    for_windows(x, grad, window, |[n, i, j], [row, column], [u, v]| {
        for o in 0..outputs {
            let g = grad[[n, i, j, o]];
            for c in 0..inputs {
                let w = weight[((o * inputs + c) * height + u) * width + v];
                grad_x[[n, row, column, c]] += g * w;
            }
        }
    });
    grad_x
}
