//! The forward pass on the device.

use cubecl::prelude::*;

use super::tile::{
    DEPTH, LEFT_QUADS, LEFT_STRIDE, Quad, ROWS, Sizes, UNIT_ROWS, copy, gather, place_windows,
    row_tile,
};

/// `y[p,o] = −Σ_{u,v,c} |x[pixel(p,u,v), c] − w[u,v,c,o]|`: rows are output positions p = (n,i,j), columns output channels,
/// and the depth runs over taps and channels.
///
/// `x` is NHWC, `w` (Kh,Kw,C,O), `y` NHWC. The inner loop has two instructions per term, a subtraction and an addition: the
/// absolute value is a modifier of the addition's operand on GPUs.
#[cube(launch)]
pub(super) fn forward(x: &[f32], w: &[f32], y: &mut [f32], sizes: Sizes, #[comptime] columns: u32) {
    let units = comptime!(4 * columns);
    let quads = comptime!(columns / 4);
    let positions = sizes.batch * sizes.out_height * sizes.out_width;
    let first_row = row_tile() * ROWS;
    let first_column = CUBE_POS_Z * columns;

    let mut image = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    let mut top = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    let mut left_edge = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    let mut pixels = Shared::<[u32]>::new_slice(comptime!(ROWS as usize));
    let mut left = Shared::<[Quad]>::new_slice(comptime!(LEFT_QUADS as usize));
    let mut right = Shared::<[Quad]>::new_slice(comptime!(units as usize));

    place_windows(
        &mut image,
        &mut top,
        &mut left_edge,
        first_row,
        &sizes,
        units,
    );

    let unit_column = UNIT_POS % quads;
    let unit_row = UNIT_POS / quads;
    let mut sums = Array::<Quad>::new(comptime!(UNIT_ROWS as usize));
    #[unroll]
    for i in 0..comptime!(UNIT_ROWS as usize) {
        sums[i] = Quad::new(0.0);
    }

    for u in 0..sizes.kernel_height {
        for v in 0..sizes.kernel_width {
            // Each unit looks up the rows that it placed itself.
            let mut row = UNIT_POS;
            while row < ROWS {
                let h = top[row as usize] + u;
                let k = left_edge[row as usize] + v;
                let there = h < sizes.in_height && k < sizes.in_width;
                let place = image[row as usize] + h * sizes.in_width + k + 1;
                pixels[row as usize] = select(there, place, 0);
                row += units;
            }
            sync_cube();
            let tap = (u * sizes.kernel_width + v) * sizes.channels;
            let mut from = 0u32;
            while from < sizes.channels {
                gather(x, &pixels, &mut left, from, sizes.channels, units);
                copy(
                    w,
                    &mut right,
                    tap,
                    from,
                    sizes.channels,
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
                            let difference = Quad::new(a.extract(i)) - b;
                            sums[half * 4 + i] += difference.abs();
                        }
                    }
                }
                sync_cube();
                from += DEPTH;
            }
        }
    }

    #[unroll]
    for i in 0..comptime!(UNIT_ROWS as usize) {
        let position = first_row + unit_row * UNIT_ROWS + i as u32;
        let sum = sums[i];
        #[unroll]
        for j in 0..4usize {
            let o = first_column + unit_column * 4 + j as u32;
            if position < positions && o < sizes.out_channels {
                y[(position * sizes.out_channels + o) as usize] = -sum.extract(j);
            }
        }
    }
}
