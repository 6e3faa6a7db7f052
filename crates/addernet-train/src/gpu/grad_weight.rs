//! The gradient of the weights on the device: a product over all positions in several parts, their sum, and its
//! normalisation.
//!
//! `∂w[o,q] = Σ_p g[p,o]·(x[pixel(p,q)] − w[o,q])` is a matrix product `Gᵀ·X` less `Σ_p g[p,o]` times w. The second sum is
//! one more row of the product, whose x is 1 everywhere.
//!
//! There are far more positions than weights, so the positions are divided between workgroups; each writes its sums to a
//! place of its own, and a second kernel adds these in order. With atomic additions the order, and so the result, would
//! differ from run to run.

use cubecl::prelude::*;

use super::tile::{
    DEPTH, LEFT_QUADS, LEFT_STRIDE, NOWHERE, Quad, ROWS, Sizes, UNIT_ROWS, copy, place_windows,
    row_tile,
};

/// Positions whose place in the maps is looked up at a time; a workgroup takes a whole number of such chunks.
pub(super) const CHUNK: u32 = ROWS;
/// Weights of a workgroup that adds up the parts.
pub(super) const SUM_WEIGHTS: u32 = 32;
/// Its units per weight.
pub(super) const SUM_SEGMENTS: u32 = 8;
/// Units of the kernel that normalises.
pub(super) const NORMALISE_UNITS: u32 = 256;

/// Row of the product whose x is 1.
const ONE: u32 = NOWHERE;
/// Rows behind it.
const NONE: u32 = NOWHERE + 1;

/// The sums over one part of the positions: `parts[part, o, q] = Σ_p g[p,o]·x[pixel(p,q)]`.
///
/// Rows are q = (u,v,c), and one more with x = 1; columns are output channels, and the depth runs over positions. `x` and
/// `grad` are NHWC. With `whole_quads`, the number of channels must be divisible by four: four rows then look at the same
/// pixel.
#[cube(launch)]
pub(super) fn grad_weight_parts(
    x: &[f32],
    grad: &[f32],
    parts: &mut [f32],
    sizes: Sizes,
    chunks_per_part: u32,
    #[comptime] columns: u32,
    #[comptime] whole_quads: bool,
) {
    let units = comptime!(4 * columns);
    let quads = comptime!(columns / 4);
    let positions = sizes.batch * sizes.out_height * sizes.out_width;
    let taps = sizes.kernel_height * sizes.kernel_width * sizes.channels;
    let first_row = row_tile() * ROWS;
    let column_tiles = sizes.out_channels.div_ceil(columns);
    let part = CUBE_POS_Z / column_tiles;
    let first_column = (CUBE_POS_Z - part * column_tiles) * columns;

    // Of each position in the chunk, as in the forward pass.
    let mut image = Shared::<[u32]>::new_slice(comptime!(CHUNK as usize));
    let mut top = Shared::<[u32]>::new_slice(comptime!(CHUNK as usize));
    let mut left_edge = Shared::<[u32]>::new_slice(comptime!(CHUNK as usize));
    let mut left = Shared::<[Quad]>::new_slice(comptime!(LEFT_QUADS as usize));
    let mut right = Shared::<[Quad]>::new_slice(comptime!(units as usize));

    // The four rows that this unit fills in the left tile: tap and channel of each.
    let quad = UNIT_POS % comptime!(ROWS / 4);
    let mut down = Array::<u32>::new(4usize);
    let mut across = Array::<u32>::new(4usize);
    let mut channel = Array::<u32>::new(4usize);
    #[unroll]
    for i in 0..4usize {
        let q = first_row + quad * 4 + i as u32;
        let tap = q / sizes.channels;
        let u = tap / sizes.kernel_width;
        down[i] = select(q < taps, u, select(q == taps, ONE, NONE));
        across[i] = tap - u * sizes.kernel_width;
        channel[i] = q - tap * sizes.channels;
    }

    let unit_column = UNIT_POS % quads;
    let unit_row = UNIT_POS / quads;
    let mut sums = Array::<Quad>::new(comptime!(UNIT_ROWS as usize));
    #[unroll]
    for i in 0..comptime!(UNIT_ROWS as usize) {
        sums[i] = Quad::new(0.0);
    }

    for chunk in 0..chunks_per_part {
        let first = (part * chunks_per_part + chunk) * CHUNK;
        place_windows(&mut image, &mut top, &mut left_edge, first, &sizes, units);
        sync_cube();
        let mut from = 0u32;
        while from < CHUNK {
            for round in 0..comptime!(DEPTH * ROWS / 4 / units) {
                let depth = UNIT_POS / comptime!(ROWS / 4) + round * comptime!(4 * units / ROWS);
                let at = (from + depth) as usize;
                let mut values = Quad::new(0.0);
                if comptime!(whole_quads) {
                    let h = top[at] + down[0usize];
                    let k = left_edge[at] + across[0usize];
                    let there = h < sizes.in_height && k < sizes.in_width;
                    let place = (image[at] + h * sizes.in_width + k) * sizes.channels;
                    let place = select(there, place + channel[0usize], 0);
                    #[unroll]
                    for i in 0..4usize {
                        let value = select(there, x[place as usize + i], 0.0);
                        values.insert(i, select(down[i] == ONE, 1.0, value));
                    }
                } else {
                    #[unroll]
                    for i in 0..4usize {
                        let h = top[at] + down[i];
                        let k = left_edge[at] + across[i];
                        let there = h < sizes.in_height && k < sizes.in_width;
                        let place = (image[at] + h * sizes.in_width + k) * sizes.channels;
                        let place = select(there, place + channel[i], 0);
                        let value = select(there, x[place as usize], 0.0);
                        values.insert(i, select(down[i] == ONE, 1.0, value));
                    }
                }
                left[(depth * LEFT_STRIDE + quad) as usize] = values;
            }
            // Positions behind the last have g = 0, whatever stands in the left tile.
            copy(
                grad,
                &mut right,
                first,
                from,
                max(positions, first) - first,
                first_column,
                sizes.out_channels,
                1.0,
                columns,
            );
            sync_cube();
            for depth in 0..DEPTH {
                let b = right[(depth * quads + unit_column) as usize];
                let at = depth * LEFT_STRIDE + unit_row * 2;
                #[unroll]
                for half in 0..2usize {
                    let a = left[at as usize + half];
                    #[unroll]
                    for i in 0..4usize {
                        let sum = sums[half * 4 + i];
                        sums[half * 4 + i] = fma(Quad::new(a.extract(i)), b, sum);
                    }
                }
            }
            sync_cube();
            from += DEPTH;
        }
    }

    #[unroll]
    for i in 0..comptime!(UNIT_ROWS as usize) {
        let q = first_row + unit_row * UNIT_ROWS + i as u32;
        let sum = sums[i];
        #[unroll]
        for j in 0..4usize {
            let o = first_column + unit_column * 4 + j as u32;
            if q <= taps && o < sizes.out_channels {
                let place = (part * sizes.out_channels + o) * (taps + 1) + q;
                parts[place as usize] = sum.extract(j);
            }
        }
    }
}

/// `∂w[o,c,u,v]`: the sum over the parts, less Σ g times `w`; `w` and `grad_w` are (O,C,Kh,Kw).
///
/// A workgroup has [`SUM_WEIGHTS`] weights, neighbours in the parts, and [`SUM_SEGMENTS`] units for each: there are too few
/// weights to keep a GPU busy, and hundreds of parts.
#[cube(launch)]
pub(super) fn grad_weight_sum(
    parts: &[f32],
    w: &[f32],
    grad_w: &mut [f32],
    sizes: Sizes,
    part_count: u32,
) {
    let window = sizes.kernel_height * sizes.kernel_width;
    let taps = window * sizes.channels;
    let segment = UNIT_POS / SUM_WEIGHTS;
    let place = row_tile() * SUM_WEIGHTS + UNIT_POS % SUM_WEIGHTS;
    let o = place / taps;
    let q = place - o * taps;
    let there = o < sizes.out_channels;

    let mut sums = Shared::<[f32]>::new_slice(comptime!((SUM_WEIGHTS * SUM_SEGMENTS) as usize));
    let mut grad_sums =
        Shared::<[f32]>::new_slice(comptime!((SUM_WEIGHTS * SUM_SEGMENTS) as usize));
    let mut sum = 0.0f32;
    let mut of_grad = 0.0f32;
    if there {
        let mut part = segment;
        while part < part_count {
            let start = (part * sizes.out_channels + o) * (taps + 1);
            sum += parts[(start + q) as usize];
            of_grad += parts[(start + taps) as usize];
            part += SUM_SEGMENTS;
        }
    }
    sums[UNIT_POS as usize] = sum;
    grad_sums[UNIT_POS as usize] = of_grad;
    sync_cube();
    if segment == 0 && there {
        for other in 1..SUM_SEGMENTS {
            let at = (other * SUM_WEIGHTS + UNIT_POS) as usize;
            sum += sums[at];
            of_grad += grad_sums[at];
        }
        let tap = q / sizes.channels;
        let c = q - tap * sizes.channels;
        let weight = ((o * sizes.channels + c) * window + tap) as usize;
        grad_w[weight] = sum - of_grad * w[weight];
    }
}

/// Scales the gradient of a layer, in place, to the norm η·√len (Chen et al., CVPR 2020, equation 10); one whose norm is
/// below `smallest` counts as one of that norm. `norm` is η·√len.
///
/// One workgroup: nothing has to be read back, and the sum's order is fixed. The gradient is divided by its largest
/// magnitude first, as its squares may be too small for f32.
#[cube(launch)]
pub(super) fn normalise(grad_w: &mut [f32], len: u32, norm: f32, smallest: f32) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(NORMALISE_UNITS as usize));
    let me = UNIT_POS as usize;

    let mut largest = 0.0f32;
    let mut place = UNIT_POS;
    while place < len {
        largest = max(largest, grad_w[place as usize].abs());
        place += NORMALISE_UNITS;
    }
    shared[me] = largest;
    sync_cube();
    let mut distance = comptime!(NORMALISE_UNITS / 2).runtime();
    while distance > 0 {
        if UNIT_POS < distance {
            shared[me] = max(shared[me], shared[me + distance as usize]);
        }
        sync_cube();
        distance /= 2;
    }
    let largest = shared[0usize];
    sync_cube();

    // A gradient of zeros stays one, and NaN spreads.
    let divisor = select(largest > 0.0, largest, 1.0);
    let mut squares = 0.0f32;
    let mut place = UNIT_POS;
    while place < len {
        let value = grad_w[place as usize] / divisor;
        squares += value * value;
        place += NORMALISE_UNITS;
    }
    shared[me] = squares;
    sync_cube();
    let mut distance = comptime!(NORMALISE_UNITS / 2).runtime();
    while distance > 0 {
        if UNIT_POS < distance {
            shared[me] += shared[me + distance as usize];
        }
        sync_cube();
        distance /= 2;
    }
    let relative = shared[0usize].sqrt();
    let factor = norm / max(relative, smallest / divisor);
    let mut place = UNIT_POS;
    while place < len {
        grad_w[place as usize] = grad_w[place as usize] / divisor * factor;
        place += NORMALISE_UNITS;
    }
}
