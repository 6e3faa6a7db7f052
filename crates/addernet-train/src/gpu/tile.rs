//! What the three kernels have in common: a product of two tiles in shared memory, `|a − b|` or another operation in place
//! of a·b.
//!
//! A workgroup computes [`ROWS`] x `columns` results (columns 16, 32 or 64) over a depth that is taken [`DEPTH`] at a time:
//! the *left* tile holds `DEPTH x ROWS` values, the *right* one `DEPTH x columns`. Each unit keeps [`UNIT_ROWS`] x 4 sums in
//! registers, so that 12 values read from shared memory serve 32 terms. There are 4·columns units.
//!
//! The tiles and the tables of rows take 15 KiB of shared memory at most, of the 16 KiB that WebGPU promises; 256 units are
//! its limit, too.
//!
//! No matrix of patches exists anywhere: a tile's rows are looked up in the maps while it is filled. Rows are
//! placed once per workgroup or chunk of positions, which takes divisions, and looked up once per tap: never per value.

use cubecl::prelude::*;

/// Four values side by side: what a unit reads from shared memory at a time.
pub(super) type Quad = Vector<f32, Const<4>>;

/// Rows of a workgroup's tile.
pub(super) const ROWS: u32 = 128;
/// Depth of a tile.
pub(super) const DEPTH: u32 = 16;
/// Rows of a unit.
pub(super) const UNIT_ROWS: u32 = 8;
/// Quads between one depth and the next in the left tile: one more than there are, so that units which write down a
/// column do not all meet the same bank.
pub(super) const LEFT_STRIDE: u32 = ROWS / 4 + 1;
/// Quads of the left tile.
pub(super) const LEFT_QUADS: u32 = DEPTH * LEFT_STRIDE;
/// A row that lies nowhere: far outside of any map, and it stays there when a kernel's size is added.
pub(super) const NOWHERE: u32 = 1 << 30;

/// The sizes of a convolution, as `addernet_kernels::ConvGeometry` has them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) batch: u32,
    pub(super) in_height: u32,
    pub(super) in_width: u32,
    pub(super) channels: u32,
    pub(super) out_height: u32,
    pub(super) out_width: u32,
    pub(super) out_channels: u32,
    pub(super) kernel_height: u32,
    pub(super) kernel_width: u32,
    pub(super) stride_v: u32,
    pub(super) stride_h: u32,
    pub(super) pad_v: u32,
    pub(super) pad_h: u32,
}

/// Where the windows of output positions `first..first + ROWS` begin: the image's first pixel, and the window's upper left
/// corner in it. A corner in the padding is negative, that is, far above the map's size; behind the last position it is
/// [`NOWHERE`].
#[cube]
pub(super) fn place_windows(
    image: &mut Shared<[u32]>,
    top: &mut Shared<[u32]>,
    left_edge: &mut Shared<[u32]>,
    first: u32,
    sizes: &Sizes,
    #[comptime] units: u32,
) {
    let positions = sizes.batch * sizes.out_height * sizes.out_width;
    let mut row = UNIT_POS;
    while row < ROWS {
        let position = first + row;
        let line = position / sizes.out_width;
        let n = line / sizes.out_height;
        image[row as usize] = n * sizes.in_height * sizes.in_width;
        let i = line - n * sizes.out_height;
        top[row as usize] = select(
            position < positions,
            i * sizes.stride_v - sizes.pad_v,
            NOWHERE,
        );
        left_edge[row as usize] =
            (position - line * sizes.out_width) * sizes.stride_h - sizes.pad_h;
        row += units;
    }
}

/// Fills the left tile with channels `from..from + DEPTH` of the pixels that the rows look at.
///
/// `pixels` has for each row the pixel's place in `maps` plus 1, or 0 where there is none, which gives 0; so do channels
/// beyond `channels`. Neighbouring units read neighbouring channels.
#[cube]
pub(super) fn gather(
    maps: &[f32],
    pixels: &Shared<[u32]>,
    left: &mut Shared<[Quad]>,
    from: u32,
    channels: u32,
    #[comptime] units: u32,
) {
    let depth = UNIT_POS % DEPTH;
    let channel = from + depth;
    for round in 0..comptime!(DEPTH * ROWS / 4 / units) {
        let quad = UNIT_POS / DEPTH + round * comptime!(units / DEPTH);
        let mut values = Quad::new(0.0);
        #[unroll]
        for i in 0..4usize {
            let pixel = pixels[(quad * 4) as usize + i];
            let there = pixel > 0 && channel < channels;
            let place = select(there, (pixel - 1) * channels + channel, 0);
            values.insert(i, select(there, maps[place as usize], 0.0));
        }
        left[(depth * LEFT_STRIDE + quad) as usize] = values;
    }
}

/// Fills the right tile with rows `first + from..` and columns `column..` of a matrix of `width` columns, times `scale`; 0
/// beyond its width, and from row `first + depths` on. There is one quad per unit.
#[cube]
pub(super) fn copy(
    matrix: &[f32],
    right: &mut Shared<[Quad]>,
    first: u32,
    from: u32,
    depths: u32,
    column: u32,
    width: u32,
    #[comptime] scale: f32,
    #[comptime] columns: u32,
) {
    let quads = comptime!(columns / 4);
    let depth = UNIT_POS / quads;
    let start = column + UNIT_POS % quads * 4;
    let mut values = Quad::new(0.0);
    #[unroll]
    for i in 0..4usize {
        let at = start + i as u32;
        let there = from + depth < depths && at < width;
        let place = select(there, (first + from + depth) * width + at, 0);
        values.insert(i, select(there, matrix[place as usize], 0.0));
    }
    right[UNIT_POS as usize] = values * Quad::new(scale);
}

/// The number of the workgroup's tile of rows: a grid has at most 65,535 workgroups in each direction, so that they are
/// laid out in two.
#[cube]
pub(super) fn row_tile() -> u32 {
    CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X
}

/// Columns of a tile for so many channels: as few as hold them, at most 64.
pub(super) fn columns(channels: usize) -> u32 {
    match channels {
        0..=16 => 16,
        17..=32 => 32,
        _ => 64,
    }
}

/// Units of a workgroup.
pub(super) fn units(columns: u32) -> CubeDim {
    CubeDim::new_1d(4 * columns)
}

/// The grid for so many rows, and `others` tiles in the third direction.
pub(super) fn grid(rows: usize, others: usize) -> CubeCount {
    grid_of_tiles(rows.div_ceil(ROWS as usize), others)
}

/// The grid for so many tiles that [`row_tile`] numbers.
pub(super) fn grid_of_tiles(tiles: usize, others: usize) -> CubeCount {
    let tiles = tiles.max(1);
    let x = tiles.min(1 << 15);
    CubeCount::Static(x as u32, tiles.div_ceil(x) as u32, others as u32)
}
