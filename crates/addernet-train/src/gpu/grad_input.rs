//! The gradient of the input on the device.

use cubecl::prelude::*;

use super::tile::{
    DEPTH, LEFT_QUADS, LEFT_STRIDE, Quad, ROWS, Sizes, UNIT_ROWS, copy, gather, row_tile,
};

/// `∂x[p,c] = Σ_{u,v,o} g[pixel(p,u,v), o]·clamp(w[u,v,o,c] − x[p,c], −1, 1)`: rows are input positions p = (n,h,k), columns
/// input channels, and the depth runs over taps and output channels.
///
/// `x` and `grad_x` are NHWC, `grad` NHWC like the output, `w` (Kh,Kw,O,C).
///
/// A tap u reaches row h from output row (h + p − u)/s, if that is whole. The rows of a workgroup therefore all have the
/// same h mod s and k mod s (its *phase*), and it takes only the taps that reach them: no product with 0 for stride 2.
///
/// The clamp: with `t = saturate(w/2 + (1 − x)/2)`, saturation to 0..1 being a modifier of the addition on GPUs,
/// `clamp(w − x, −1, 1) = 2t − 1`, so that `∂x = 2·Σ g·t − Σ g`. The inner loop has two instructions per term, a saturated
/// addition and a multiply-add, and Σ g is shared by four channels.
#[cube(launch)]
pub(super) fn grad_input(
    x: &[f32],
    w: &[f32],
    grad: &[f32],
    grad_x: &mut [f32],
    sizes: Sizes,
    #[comptime] columns: u32,
) {
    let units = comptime!(4 * columns);
    let quads = comptime!(columns / 4);
    let column_tiles = sizes.channels.div_ceil(columns);
    let phase = CUBE_POS_Z / column_tiles;
    let first_column = (CUBE_POS_Z - phase * column_tiles) * columns;
    let first_h = phase / sizes.stride_h;
    let first_k = phase - first_h * sizes.stride_h;
    // The phase's rows and columns: none if the stride is larger than the map.
    let height = (sizes.in_height + sizes.stride_v - 1 - first_h) / sizes.stride_v;
    let width = (sizes.in_width + sizes.stride_h - 1 - first_k) / sizes.stride_h;
    let positions = sizes.batch * height * width;
    let first_row = row_tile() * ROWS;

    let mut image = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    let mut bottom = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    let mut right_edge = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    // The row's own pixel plus 1, or 0.
    let mut own = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    let mut pixels = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    let mut left = Shared::<[Quad]>::new_slice(comptime!(LEFT_QUADS as usize));
    let mut right = Shared::<[Quad]>::new_slice(comptime!(units as usize));

    let mut row = UNIT_POS;
    while row < ROWS {
        let position = first_row + row;
        let there = position < positions;
        let line = select(there, position / max(width, 1u32), 0);
        let n = line / max(height, 1u32);
        let h = first_h + (line - n * height) * sizes.stride_v;
        let k = first_k + (position - line * width) * sizes.stride_h;
        image[row as usize] = n * sizes.out_height * sizes.out_width;
        bottom[row as usize] = h + sizes.pad_v;
        right_edge[row as usize] = k + sizes.pad_h;
        let place = (n * sizes.in_height + h) * sizes.in_width + k + 1;
        own[row as usize] = select(there, place, 0);
        row += units;
    }
    sync_cube();

    let unit_column = UNIT_POS % quads;
    let unit_row = UNIT_POS / quads;
    let mut sums = Array::<Quad>::new(comptime!(UNIT_ROWS as usize));
    // (1 − x)/2.
    let mut offsets = Array::<Quad>::new(comptime!(UNIT_ROWS as usize));
    #[unroll]
    for i in 0..comptime!(UNIT_ROWS as usize) {
        sums[i] = Quad::new(0.0);
        let pixel = own[(unit_row * UNIT_ROWS) as usize + i];
        let mut values = Quad::new(0.0);
        #[unroll]
        for j in 0..4usize {
            let c = first_column + unit_column * 4 + j as u32;
            let there = pixel > 0 && c < sizes.channels;
            let place = select(there, (pixel - 1) * sizes.channels + c, 0);
            values.insert(j, 0.5 - 0.5 * x[place as usize]);
        }
        offsets[i] = values;
    }
    let mut grad_sums = Array::<Quad>::new(2usize);
    grad_sums[0] = Quad::new(0.0);
    grad_sums[1] = Quad::new(0.0);

    let mut u = (first_h + sizes.pad_v) % sizes.stride_v;
    while u < sizes.kernel_height {
        let mut v = (first_k + sizes.pad_h) % sizes.stride_h;
        while v < sizes.kernel_width {
            let mut row = UNIT_POS;
            while row < ROWS {
                let down = bottom[row as usize];
                let across = right_edge[row as usize];
                let i = (down - u) / sizes.stride_v;
                let j = (across - v) / sizes.stride_h;
                let there = own[row as usize] > 0
                    && down >= u
                    && across >= v
                    && i < sizes.out_height
                    && j < sizes.out_width;
                let place = image[row as usize] + i * sizes.out_width + j + 1;
                pixels[row as usize] = select(there, place, 0);
                row += units;
            }
            sync_cube();
            let tap = (u * sizes.kernel_width + v) * sizes.out_channels;
            let mut from = 0u32;
            while from < sizes.out_channels {
                gather(grad, &pixels, &mut left, from, sizes.out_channels, units);
                copy(
                    w,
                    &mut right,
                    tap,
                    from,
                    sizes.out_channels,
                    first_column,
                    sizes.channels,
                    0.5,
                    columns,
                );
                sync_cube();
                for depth in 0..DEPTH {
                    let b = right[(depth * quads + unit_column) as usize];
                    let at = depth * LEFT_STRIDE + unit_row * 2;
                    #[unroll]
                    for half in 0..2usize {
                        let g = left[at as usize + half];
                        grad_sums[half] += g;
                        #[unroll]
                        for i in 0..4usize {
                            let t = b + offsets[half * 4 + i];
                            let t = clamp(t, Quad::new(0.0), Quad::new(1.0));
                            let sum = sums[half * 4 + i];
                            sums[half * 4 + i] = fma(Quad::new(g.extract(i)), t, sum);
                        }
                    }
                }
                sync_cube();
                from += DEPTH;
            }
            v += sizes.stride_h;
        }
        u += sizes.stride_v;
    }

    #[unroll]
    for i in 0..comptime!(UNIT_ROWS as usize) {
        let pixel = own[(unit_row * UNIT_ROWS) as usize + i];
        let of_grad = grad_sums[comptime!(i / 4)].extract(comptime!(i % 4));
        let sum = sums[i];
        #[unroll]
        for j in 0..4usize {
            let c = first_column + unit_column * 4 + j as u32;
            if pixel > 0 && c < sizes.channels {
                grad_x[((pixel - 1) * sizes.channels + c) as usize] =
                    2.0 * sum.extract(j) - of_grad;
            }
        }
    }
}
