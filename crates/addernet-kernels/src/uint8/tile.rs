//! The tile kernel: a few output pixels by a few vectors of output channels, accumulated in
//! registers.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    box_sum::{BoxSums, Windows},
    pack::{Layout, PackedWeightsU8},
    rescale::{ChannelScales, CodeRows, MapCodes, Residual},
    simd::{Constants, MAX_LANES, SimdU8, Task, unrolled},
    triples::Planes,
};

/// The largest tile whose pixels have a pointer each: more would not fit the general registers.
const MAX_POINTERS: usize = 8;

/// Output rows that are at least so long are divided into tiles of their own.
const ROW_TILE: usize = 4;

/// Kernel width of the sliding tiles.
const WIDTH: usize = 3;

/// In place of a number of channels that is known when the kernel is compiled.
const ANY: usize = 0;

/// What becomes of the sums of some output rows.
pub(crate) enum Output<'a, 'c> {
    /// They are stored, `[rows][windows.per_row][out_channels]`.
    Sums(&'a mut [i32]),
    /// They are scaled to codes.
    Codes {
        scales: &'a ChannelScales,
        to: CodeRows<'a>,
    },
    /// They are scaled and added to a residual: the values of a map
    /// `[rows][windows.per_row][out_channels]`, no less than `low`, which then become codes.
    Map {
        scales: &'a ChannelScales,
        residual: Residual<'a>,
        low: i16,
        map: &'a mut [i16],
        codes: &'a mut [MapCodes<'c>],
        /// The first row's number among those that the maps of codes have.
        first_row: usize,
    },
}

impl Output<'_, '_> {
    /// Panics unless `rows` rows of `width` pixels of `channels` fit, and, where sums are scaled, blocks of
    /// `lanes` are whole.
    pub(super) fn check(&self, rows: usize, width: usize, channels: usize, lanes: usize) {
        let len = rows * width * channels;
        match self {
            Output::Sums(y) => assert_eq!(y.len(), len),
            Output::Codes { scales, to } => {
                assert!(scales.channels() == channels && channels.is_multiple_of(lanes));
                assert!(to.check(rows, width, channels).is_ok());
            }
            Output::Map {
                scales,
                residual,
                map,
                codes,
                first_row,
                ..
            } => {
                assert!(scales.channels() == channels && channels.is_multiple_of(lanes));
                assert_eq!(map.len(), len);
                if let Residual::Map(other) = residual {
                    assert_eq!(other.len(), len);
                }
                for codes in codes.iter() {
                    let rows = first_row + rows;
                    assert!(codes.rows.check(rows, width, channels).is_ok());
                }
            }
        }
    }

    /// Where a pixel's first channel is.
    #[inline(always)]
    pub(super) fn offset(&self, at: Position, width: usize, channels: usize) -> usize {
        match self {
            Output::Codes { to, .. } => to.offset(at),
            _ => (at.row * width + at.column) * channels,
        }
    }

    /// Writes what becomes of a tile's sums, those of `B` vectors of the `out_channels` from channel `first`
    /// on; the sums of vector b lack `bias(b)`. Pixel p is at `position(p)`, and its channels begin at
    /// `offset(p)` in the output.
    ///
    /// # Safety
    /// The output must have been checked, each bias have the kernel's lanes, and the offsets be those of
    /// pixels of the output.
    #[inline(always)]
    pub(super) unsafe fn store<'w, S: SimdU8, const P: usize, const B: usize>(
        &mut self,
        simd: S,
        [out_channels, first]: [usize; 2],
        bias: impl Fn(usize) -> &'w [i32],
        offset: impl Fn(usize) -> usize,
        position: impl Fn(usize) -> Position,
        sums: &[[S::Sums; B]; P],
    ) {
        match self {
            Output::Sums(y) if first + B * S::LANES <= out_channels => {
                let y = y.as_mut_ptr().wrapping_add(first);
                unrolled!(p to P, {
                    for b in 0..B {
                        // SAFETY: the pixel and all of the vector's channels are inside the output.
                        unsafe {
                            let sums = simd.add_bias(sums[p][b], bias(b));
                            simd.store(y.add(offset(p) + b * S::LANES), sums);
                        }
                    }
                });
            }
            Output::Sums(y) => {
                let mut lanes = [[[0; MAX_LANES]; B]; P];
                unrolled!(p to P, {
                    for b in 0..B {
                        // SAFETY: no vector has more than MAX_LANES lanes.
                        unsafe {
                            let sums = simd.add_bias(sums[p][b], bias(b));
                            simd.store(lanes[p][b].as_mut_ptr(), sums);
                        }
                    }
                });
                for (p, lanes) in lanes.iter().enumerate() {
                    for (b, lanes) in lanes.iter().enumerate() {
                        let channel = first + b * S::LANES;
                        let channels = S::LANES.min(out_channels - channel);
                        copy_lanes(&mut y[offset(p) + channel..][..channels], lanes);
                    }
                }
            }
            Output::Codes { scales, to } => {
                let constants = Constants::of(scales, first);
                // SAFETY: `check` found that blocks are whole, so that constants and codes of all lanes
                // are there.
                unsafe {
                    let codes = to.codes.as_mut_ptr().add(first);
                    simd.store_codes(codes, offset, sums, constants, to.range);
                }
            }
            Output::Map {
                scales,
                residual,
                low,
                map,
                codes,
                first_row,
            } => {
                let constants = Constants::of(scales, first);
                let map = map.as_mut_ptr();
                // SAFETY: `check` found that blocks are whole, so that constants, values and codes of all
                // lanes are there.
                unsafe {
                    let map = map.add(first);
                    let residual = match residual {
                        Residual::None => None,
                        Residual::InPlace => Some(map.cast_const()),
                        Residual::Map(other) => Some(other.as_ptr().add(first)),
                    };
                    let place = |rows: &CodeRows<'_>, p| {
                        let Position { row, column } = position(p);
                        let row = *first_row + row;
                        rows.offset(Position { row, column }) + first
                    };
                    simd.store_map(map, offset, sums, constants, residual, *low, codes, place);
                }
            }
        }
    }

    /// From a pixel to the next in its row.
    #[inline(always)]
    pub(super) fn step(&self, channels: usize) -> usize {
        match self {
            Output::Codes { to, .. } => to.pixel_pitch,
            _ => channels,
        }
    }
}

/// Some output rows of one convolution, all their channels: the unit of work of one thread.
pub(crate) struct Unit<'a, 'c> {
    weights: &'a PackedWeightsU8,
    windows: &'a Windows,
    x: &'a [u8],
    rows: &'a [usize],
    sums: &'a mut BoxSums,
    planes: &'a mut Planes,
    output: Output<'a, 'c>,
}

impl<'a, 'c> Unit<'a, 'c> {
    /// `rows` are the input rows, in ascending order, at whose beginning the rows of windows start.
    ///
    /// # Panics
    /// If a window reaches beyond `x`, which only a mistake in this crate can cause.
    pub(crate) fn new(
        weights: &'a PackedWeightsU8,
        windows: &'a Windows,
        x: &'a [u8],
        rows: &'a [usize],
        (sums, planes): (&'a mut BoxSums, &'a mut Planes),
        output: Output<'a, 'c>,
    ) -> Self {
        let [_, _, height, width] = weights.shape();
        assert_eq!(windows.size, [height, width]);
        let columns = windows.lead + (windows.per_row - 1) * windows.stride + width;
        let len = (height - 1) * windows.row_len() + columns * windows.channels;
        assert!(
            rows.iter()
                .all(|&row| row * windows.row_len() + len <= x.len())
        );
        Self {
            weights,
            windows,
            x,
            rows,
            sums,
            planes,
            output,
        }
    }

    pub(super) fn windows(&self) -> &'a Windows {
        self.windows
    }

    /// The input rows at whose beginning the rows of windows start.
    pub(super) fn tops(&self) -> &'a [usize] {
        self.rows
    }

    pub(super) fn input(&self) -> &'a [u8] {
        self.x
    }

    pub(super) fn planes(&mut self) -> &mut Planes {
        self.planes
    }
}

impl Task for Unit<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(mut self, simd: S) {
        assert!(self.weights.layout() == Layout::of::<S>() && S::LANES <= MAX_LANES);
        let out_channels = self.weights.shape()[0];
        self.output.check(
            self.rows.len(),
            self.windows.per_row,
            out_channels,
            S::LANES,
        );
        let weights = self.weights;
        if let Some(triples) = weights.triples() {
            return self.look_up(simd, triples);
        }
        // A row of a kernel has as many codes as a row of its window.
        let row_codes = self.weights.row_vectors() * S::GROUP;
        assert_eq!(row_codes, self.windows.size[1] * self.windows.channels);
        if S::MAX_IDENTITY {
            self.sums.compute(simd, self.x, self.rows, self.windows);
        }
        let blocks = self.weights.blocks();
        let mut block = 0;
        while block < blocks {
            if S::PIXELS_2 > 0 && blocks - block >= 2 {
                self.blocks::<S, 2>(simd, block);
                block += 2;
            } else {
                self.blocks::<S, 1>(simd, block);
                block += 1;
            }
        }
    }
}

/// The largest tile of so many vectors.
const fn max_pixels<S: SimdU8, const B: usize>() -> usize {
    if B == 2 { S::PIXELS_2 } else { S::PIXELS_1 }
}

impl Unit<'_, '_> {
    /// All pixels of `B` blocks of output channels.
    #[inline(always)]
    fn blocks<S: SimdU8, const B: usize>(&mut self, simd: S, block: usize) {
        let width = self.windows.per_row;
        let slides = S::SLIDE && self.windows.size[1] == WIDTH;
        if slides && width.is_multiple_of(max_pixels::<S, B>()) {
            match (self.windows.channels, self.windows.stride) {
                (16, 1) => return self.sliding::<S, B, 16, 1>(simd, block),
                (16, 2) => return self.sliding::<S, B, 16, 2>(simd, block),
                (32, 1) => return self.sliding::<S, B, 32, 1>(simd, block),
                (32, 2) => return self.sliding::<S, B, 32, 2>(simd, block),
                (64, 1) => return self.sliding::<S, B, 64, 1>(simd, block),
                (64, 2) => return self.sliding::<S, B, 64, 2>(simd, block),
                (_, 1) if B == 2 => return self.sliding::<S, B, ANY, 1>(simd, block),
                _ => {}
            }
        }
        // Maps of 224 pixels that networks halve again and again: 56, 28, 14 and 7.
        if slides && B == 2 && self.windows.stride == 1 && width.is_multiple_of(7) {
            return self.slide::<S, 7, B, ANY, 1>(simd, block);
        }
        if self.windows.per_row >= ROW_TILE {
            return self.in_rows::<S, B>(simd, block);
        }
        let total = self.rows.len() * self.windows.per_row;
        let tiles = total.div_ceil(max_pixels::<S, B>().min(MAX_POINTERS));
        let (mut pixel, mut at) = (0, Position { row: 0, column: 0 });
        for tile in 0..tiles {
            // Tiles of nearly equal size: 49 pixels are 7 tiles of 7, not 6 of 8 and 1 of 1.
            let pixels = (total - pixel).div_ceil(tiles - tile);
            match pixels {
                1 => self.tile::<S, 1, B>(simd, block, &mut at),
                2 => self.tile::<S, 2, B>(simd, block, &mut at),
                3 => self.tile::<S, 3, B>(simd, block, &mut at),
                4 => self.tile::<S, 4, B>(simd, block, &mut at),
                5 => self.tile::<S, 5, B>(simd, block, &mut at),
                6 => self.tile::<S, 6, B>(simd, block, &mut at),
                7 => self.tile::<S, 7, B>(simd, block, &mut at),
                _ => self.tile::<S, 8, B>(simd, block, &mut at),
            }
            pixel += pixels;
        }
    }

    /// The same in tiles that do not go on in the next row, whose places are therefore a constant distance
    /// apart.
    #[inline(always)]
    fn in_rows<S: SimdU8, const B: usize>(&mut self, simd: S, block: usize) {
        let width = self.windows.per_row;
        let tiles = width.div_ceil(max_pixels::<S, B>().min(MAX_POINTERS));
        for row in 0..self.rows.len() {
            let mut column = 0;
            for tile in 0..tiles {
                let pixels = (width - column).div_ceil(tiles - tile);
                let at = Position { row, column };
                match pixels {
                    1 => self.in_row::<S, 1, B>(simd, block, at),
                    2 => self.in_row::<S, 2, B>(simd, block, at),
                    3 => self.in_row::<S, 3, B>(simd, block, at),
                    4 => self.in_row::<S, 4, B>(simd, block, at),
                    5 => self.in_row::<S, 5, B>(simd, block, at),
                    6 => self.in_row::<S, 6, B>(simd, block, at),
                    7 => self.in_row::<S, 7, B>(simd, block, at),
                    _ => self.in_row::<S, 8, B>(simd, block, at),
                }
                column += pixels;
            }
        }
    }

    /// `P` pixels of one row from `first` on.
    #[inline(always)]
    fn in_row<S: SimdU8, const P: usize, const B: usize>(
        &mut self,
        simd: S,
        block: usize,
        first: Position,
    ) {
        if P > max_pixels::<S, B>().min(MAX_POINTERS) {
            return; // Never happens; the compiler sees that and leaves larger tiles out.
        }
        let Position { row, column } = first;
        let mut at = self.operands::<S, P, B>(block);
        let mut x = [self.window(first); P];
        let stride = self.windows.stride;
        let sums = match S::MAX_IDENTITY {
            true => self.sums.row(row)[column * stride..].as_ptr(),
            false => std::ptr::null(),
        };
        at.x_sums = [sums; P];
        for p in 1..P {
            x[p] = x[0].wrapping_add(p * self.windows.step());
            at.x_sums[p] = sums.wrapping_add(p * stride);
        }
        let rows = self.window_rows();
        // SAFETY: `Unit::new` checked that the windows lie inside `x`, so that their sums are there, and
        // `run` that rows of windows and of blocks are equally long and that blocks have this kernel's
        // lanes.
        unsafe {
            let sums = accumulate::<S, P, B>(simd, x, at, rows);
            self.store_in_row(simd, block, first, &sums);
        }
    }

    /// The rows of a window and of a kernel.
    #[inline(always)]
    fn window_rows(&self) -> Rows {
        Rows {
            rows: self.windows.size[0],
            x_stride: self.windows.row_len(),
            vectors: self.weights.row_vectors(),
        }
    }

    /// The same in tiles whose windows slide along one row: all sizes are constants, and a code
    /// serves every window that sees it.
    #[inline(always)]
    fn sliding<S: SimdU8, const B: usize, const CHANNELS: usize, const STRIDE: usize>(
        &mut self,
        simd: S,
        block: usize,
    ) {
        match max_pixels::<S, B>() {
            16 => self.slide::<S, 16, B, CHANNELS, STRIDE>(simd, block),
            8 => self.slide::<S, 8, B, CHANNELS, STRIDE>(simd, block),
            _ => self.slide::<S, 4, B, CHANNELS, STRIDE>(simd, block),
        }
    }

    #[inline(always)]
    fn slide<
        S: SimdU8,
        const P: usize,
        const B: usize,
        const CHANNELS: usize,
        const STRIDE: usize,
    >(
        &mut self,
        simd: S,
        block: usize,
    ) {
        if P > max_pixels::<S, B>() {
            return; // Never happens; the compiler sees that and leaves larger tiles out.
        }
        // Copies, which no write to the output can change: the addresses of a tile must not wait for the
        // tile before it.
        let (windows, width) = (*self.windows, self.windows.per_row);
        let rows = self.window_rows();
        let w = self.operands::<S, P, B>(block).w;
        let channels = self.weights.shape()[0];
        let step = self.output.step(channels);
        let tiles = width / P;
        for row in 0..self.rows.len() {
            let first = Position { row, column: 0 };
            let mut x = self.window(first);
            let mut to = self.output.offset(first, width, channels);
            let mut x_sums = match S::MAX_IDENTITY {
                true => self.sums.row(row)[..=(width - 1) * STRIDE].as_ptr(),
                false => std::ptr::null(),
            };
            let mut column = 0;
            for _ in 0..tiles {
                // SAFETY: `Unit::new` checked that the windows lie inside `x`, so that their sums are there,
                // and `run` that rows of windows and of blocks are equally long and that blocks have this
                // kernel's lanes.
                unsafe {
                    let sums = slide::<S, P, B, CHANNELS, STRIDE>(simd, x, w, x_sums, rows);
                    let position = |p| Position {
                        row,
                        column: column + p,
                    };
                    self.store(simd, block, |p| to + p * step, position, &sums);
                }
                x = x.wrapping_add(P * STRIDE * windows.channels);
                x_sums = x_sums.wrapping_add(P * STRIDE);
                to += P * step;
                column += P;
            }
        }
    }

    /// Writes what becomes of the sums of `P` pixels of one row, from `first` on.
    ///
    /// # Safety
    /// They must be pixels of the output.
    #[inline(always)]
    pub(super) unsafe fn store_in_row<S: SimdU8, const P: usize, const B: usize>(
        &mut self,
        simd: S,
        block: usize,
        first: Position,
        sums: &[[S::Sums; B]; P],
    ) {
        let channels = self.weights.shape()[0];
        let to = self.output.offset(first, self.windows.per_row, channels);
        let step = self.output.step(channels);
        let Position { row, column } = first;
        let position = |p| Position {
            row,
            column: column + p,
        };
        // SAFETY: the caller promises the pixels; blocks have this kernel's lanes.
        unsafe { self.store(simd, block, |p| to + p * step, position, sums) }
    }

    /// `P` pixels from `position` on, which moves on to the next one.
    #[inline(always)]
    fn tile<S: SimdU8, const P: usize, const B: usize>(
        &mut self,
        simd: S,
        block: usize,
        position: &mut Position,
    ) {
        if P > max_pixels::<S, B>().min(MAX_POINTERS) {
            return; // Never happens; the compiler sees that and leaves larger tiles out.
        }
        let mut x = [self.x.as_ptr(); P];
        let mut to = [0; P];
        let mut positions = [*position; P];
        let mut at = self.operands::<S, P, B>(block);
        let channels = self.weights.shape()[0];
        for p in 0..P {
            x[p] = self.window(*position);
            positions[p] = *position;
            to[p] = self
                .output
                .offset(*position, self.windows.per_row, channels);
            if S::MAX_IDENTITY {
                let column = position.column * self.windows.stride;
                at.x_sums[p] = &self.sums.row(position.row)[column];
            }
            position.column += 1;
            if position.column == self.windows.per_row {
                *position = Position {
                    row: position.row + 1,
                    column: 0,
                };
            }
        }
        let rows = self.window_rows();
        // SAFETY: `Unit::new` checked that the windows lie inside `x`, and `run` that rows of windows and
        // of blocks are equally long and that blocks have this kernel's lanes.
        unsafe {
            let sums = accumulate::<S, P, B>(simd, x, at, rows);
            self.store(simd, block, |p| to[p], |p| positions[p], &sums);
        }
    }

    /// Writes what becomes of a tile's sums.
    ///
    /// # Safety
    /// As [`Output::store`].
    #[inline(always)]
    unsafe fn store<S: SimdU8, const P: usize, const B: usize>(
        &mut self,
        simd: S,
        block: usize,
        offset: impl Fn(usize) -> usize,
        position: impl Fn(usize) -> Position,
        sums: &[[S::Sums; B]; P],
    ) {
        let weights = self.weights;
        let channels = [weights.shape()[0], block * S::LANES];
        let bias = |b| weights.bias(block + b);
        // SAFETY: the caller promises the same.
        unsafe {
            self.output
                .store(simd, channels, bias, offset, position, sums);
        }
    }

    /// Where a window starts.
    #[inline(always)]
    fn window(&self, Position { row, column }: Position) -> *const u8 {
        let w = self.windows;
        let start = self.rows[row] * w.row_len() + w.lead * w.channels + column * w.step();
        self.x.as_ptr().wrapping_add(start)
    }

    /// What a tile of some blocks reads, without window sums.
    #[inline(always)]
    fn operands<S: SimdU8, const P: usize, const B: usize>(&self, block: usize) -> Operands<P, B> {
        let mut at = Operands {
            w: [self.weights.block(block).as_ptr(); B],
            x_sums: [std::ptr::null(); P],
        };
        for b in 1..B {
            at.w[b] = self.weights.block(block + b).as_ptr();
        }
        at
    }
}

/// The part of a vector that the last output channels fill. Not inlined, to keep the tiles' code
/// short.
#[inline(never)]
fn copy_lanes(y: &mut [i32], lanes: &[i32; MAX_LANES]) {
    y.copy_from_slice(&lanes[..y.len()]);
}

/// A pixel of a unit.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) row: usize,
    pub(super) column: usize,
}

/// What a tile reads beside the input.
#[derive(Clone, Copy)]
struct Operands<const P: usize, const B: usize> {
    /// Each block's weights.
    w: [*const u8; B],
    /// Each pixel's window sum, with the max identity.
    x_sums: [*const i32; P],
}

/// The rows of a window and of a kernel.
#[derive(Clone, Copy)]
struct Rows {
    rows: usize,
    /// Bytes from a row of the input to the next.
    x_stride: usize,
    /// Vectors of weights, and groups of inputs, in a row.
    vectors: usize,
}

/// All terms of `P` pixels by `B` vectors.
///
/// # Safety
/// Each `x` must be valid for reads of a window's rows, the operands for a tile of that size.
#[inline(always)]
unsafe fn accumulate<S: SimdU8, const P: usize, const B: usize>(
    simd: S,
    mut x: [*const u8; P],
    mut at: Operands<P, B>,
    rows: Rows,
) -> [[S::Sums; B]; P] {
    let vector = S::LANES * S::GROUP;
    // Loops instead of `array::map`, whose closures are not always inlined.
    // SAFETY: the caller promises the operands.
    let mut sums = [[unsafe { simd.start(at.x_sums[0]) }; B]; P];
    for p in 1..P {
        // SAFETY: the caller promises the operands.
        sums[p] = [unsafe { simd.start(at.x_sums[p]) }; B];
    }
    let factors = simd.factors();
    for _ in 0..rows.rows {
        for group in 0..rows.vectors {
            // SAFETY: the group is inside the row, which the caller promises.
            let mut weights = [unsafe { simd.load(at.w[0].add(group * vector)) }; B];
            for b in 1..B {
                // SAFETY: as above.
                weights[b] = unsafe { simd.load(at.w[b].add(group * vector)) };
            }
            for p in 0..P {
                // SAFETY: as above.
                let codes = unsafe { simd.broadcast(x[p].add(group * S::GROUP)) };
                for b in 0..B {
                    sums[p][b] = simd.accumulate(sums[p][b], codes, weights[b], factors);
                }
            }
        }
        for x in &mut x {
            *x = x.wrapping_add(rows.x_stride);
        }
        for w in &mut at.w {
            *w = w.wrapping_add(rows.vectors * vector);
        }
    }
    sums
}

/// All terms of `P` neighbouring pixels of one row by `B` vectors, for kernels of [`WIDTH`] columns and of
/// `CHANNELS` input channels, or, if that is [`ANY`], of as many as `rows` say.
///
/// # Safety
/// `x` must be valid for reads of the input rows of the windows of `P` pixels, each `w` of a block, and
/// `x_sums`, with the max identity, of the window sums of `P` pixels `STRIDE` apart.
#[inline(always)]
unsafe fn slide<
    S: SimdU8,
    const P: usize,
    const B: usize,
    const CHANNELS: usize,
    const STRIDE: usize,
>(
    simd: S,
    mut x: *const u8,
    mut w: [*const u8; B],
    x_sums: *const i32,
    rows: Rows,
) -> [[S::Sums; B]; P] {
    let vector = S::LANES * S::GROUP;
    let groups = match CHANNELS {
        ANY => rows.vectors / WIDTH,
        _ => CHANNELS / S::GROUP,
    };
    let channels = groups * S::GROUP;
    // SAFETY: the caller promises the window sums.
    let mut sums = [[unsafe { simd.start(x_sums) }; B]; P];
    for p in 1..P {
        // SAFETY: as above.
        sums[p] = [unsafe { simd.start(x_sums.wrapping_add(p * STRIDE)) }; B];
    }
    let factors = simd.factors();
    for _ in 0..rows.rows {
        for group in 0..groups {
            // SAFETY: taps and groups are inside the kernel's row, which the caller promises.
            let mut weights = [[unsafe { simd.load(w[0].add(group * vector)) }; B]; WIDTH];
            for v in 0..WIDTH {
                for b in 0..B {
                    let tap = (v * groups + group) * vector;
                    // SAFETY: as above.
                    weights[v][b] = unsafe { simd.load(w[b].add(tap)) };
                }
            }
            let codes = |column: usize| {
                let code = column * channels + group * S::GROUP;
                // SAFETY: the column is inside the windows' row, which the caller promises.
                unsafe { simd.broadcast(x.add(code)) }
            };
            let (mut left, mut middle) = (codes(0), codes(1));
            for p in 0..P {
                if STRIDE == 2 && p > 0 {
                    middle = codes(p * STRIDE + 1);
                }
                let right = codes(p * STRIDE + 2);
                for b in 0..B {
                    sums[p][b] = simd.accumulate(sums[p][b], left, weights[0][b], factors);
                }
                for b in 0..B {
                    sums[p][b] = simd.accumulate(sums[p][b], middle, weights[1][b], factors);
                }
                for b in 0..B {
                    sums[p][b] = simd.accumulate(sums[p][b], right, weights[2][b], factors);
                }
                (left, middle) = if STRIDE == 1 {
                    (middle, right)
                } else {
                    (right, right)
                };
            }
        }
        x = x.wrapping_add(rows.x_stride);
        for w in &mut w {
            *w = w.wrapping_add(WIDTH * groups * vector);
        }
    }
    sums
}
