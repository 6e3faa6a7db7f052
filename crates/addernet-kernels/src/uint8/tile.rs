//! The tile kernel: a few output pixels by a few vectors of output channels, accumulated in
//! registers.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    box_sum::{BoxSums, Windows},
    output::{Output, Position},
    pack::{Layout, PackedWeightsU8},
    parts::{Anywhere, InRows, LookUp},
    simd::{MAX_LANES, SimdU8, Task},
    triples::Planes,
};
use crate::aligned::AlignedVec;

/// The largest tile whose pixels have a pointer each: more would not fit the general registers.
const MAX_POINTERS: usize = 8;

/// Output rows that are at least so long are divided into tiles of their own.
const ROW_TILE: usize = 4;

/// What a unit computes on the way, kept between calls for its memory.
pub(super) struct Buffers {
    /// Window sums.
    pub(super) sums: BoxSums,
    /// Codes joined in threes.
    planes: Planes,
    /// Codes joined in fours.
    fours: AlignedVec<u16>,
}

impl Buffers {
    pub(super) const fn new() -> Self {
        Self {
            sums: BoxSums::new(),
            planes: Planes::new(),
            fours: AlignedVec::new(),
        }
    }
}

/// Some output rows of one convolution, all their channels: the unit of work of one thread.
pub(crate) struct Unit<'a, 'c> {
    pub(super) weights: &'a PackedWeightsU8,
    pub(super) windows: &'a Windows,
    x: &'a [u8],
    pub(super) rows: &'a [usize],
    pub(super) buffers: &'a mut Buffers,
    pub(super) output: Output<'a, 'c>,
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
        buffers: &'a mut Buffers,
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
            buffers,
            output,
        }
    }

    /// The same unit, for a function of its own: by value, so that the compiler knows that no write to the output changes it.
    #[inline(always)]
    pub(super) fn reborrow(&mut self) -> Unit<'_, 'c> {
        Unit {
            weights: self.weights,
            windows: self.windows,
            x: self.x,
            rows: self.rows,
            buffers: self.buffers,
            output: self.output.reborrow(),
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
        &mut self.buffers.planes
    }

    /// Room for codes that were joined in fours.
    pub(super) fn joined(&mut self) -> &mut AlignedVec<u16> {
        &mut self.buffers.fours
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
        if let Some(weights) = weights.looked_up() {
            return simd.vectorize(LookUp {
                unit: self,
                weights,
            });
        }
        // A row of a kernel has as many codes as a row of its window.
        let row_codes = self.weights.row_vectors() * S::GROUP;
        assert_eq!(row_codes, self.windows.size[1] * self.windows.channels);
        if S::MAX_IDENTITY {
            self.buffers
                .sums
                .compute(simd, self.x, self.rows, self.windows);
        }
        let blocks = self.weights.blocks();
        let mut block = 0;
        let pairs = S::PIXELS_2 > 0;
        while block < blocks {
            if pairs && blocks - block >= 2 {
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
pub(super) const fn max_pixels<S: SimdU8, const B: usize>() -> usize {
    if B == 2 { S::PIXELS_2 } else { S::PIXELS_1 }
}

impl Unit<'_, '_> {
    /// All pixels of `B` blocks of output channels.
    #[inline(always)]
    fn blocks<S: SimdU8, const B: usize>(&mut self, simd: S, block: usize) {
        if self.in_sized_tiles::<S, B>(simd, block) {
            return;
        }
        let in_rows = self.windows.per_row >= ROW_TILE;
        let unit = self.reborrow();
        match in_rows {
            true => simd.vectorize(InRows::<B> { unit, block }),
            false => simd.vectorize(Anywhere::<B> { unit, block }),
        }
    }

    /// The same in tiles that go on in the next row.
    #[inline(always)]
    pub(super) fn anywhere<S: SimdU8, const B: usize>(&mut self, simd: S, block: usize) {
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
    pub(super) fn in_rows<S: SimdU8, const B: usize>(&mut self, simd: S, block: usize) {
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
            true => self.buffers.sums.row(row)[column * stride..].as_ptr(),
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
    pub(super) fn window_rows(&self) -> Rows {
        Rows {
            rows: self.windows.size[0],
            x_stride: self.windows.row_len(),
            vectors: self.weights.row_vectors(),
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
                at.x_sums[p] = &self.buffers.sums.row(position.row)[column];
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
    pub(super) unsafe fn store<S: SimdU8, const P: usize, const B: usize>(
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
    pub(super) fn window(&self, Position { row, column }: Position) -> *const u8 {
        let w = self.windows;
        let start = self.rows[row] * w.row_len() + w.lead * w.channels + column * w.step();
        self.x.as_ptr().wrapping_add(start)
    }

    /// What a tile of some blocks reads, without window sums.
    #[inline(always)]
    pub(super) fn operands<S: SimdU8, const P: usize, const B: usize>(
        &self,
        block: usize,
    ) -> Operands<P, B> {
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

/// What a tile reads beside the input.
#[derive(Clone, Copy)]
pub(super) struct Operands<const P: usize, const B: usize> {
    /// Each block's weights.
    pub(super) w: [*const u8; B],
    /// Each pixel's window sum, with the max identity.
    pub(super) x_sums: [*const i32; P],
}

/// The rows of a window and of a kernel.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) rows: usize,
    /// Bytes from a row of the input to the next.
    pub(super) x_stride: usize,
    /// Vectors of weights, and groups of inputs, in a row.
    pub(super) vectors: usize,
}

/// All terms of `P` pixels by `B` vectors.
///
/// # Safety
/// Each `x` must be valid for reads of a window's rows, the operands for a tile of that size.
#[inline(always)]
pub(super) unsafe fn accumulate<S: SimdU8, const P: usize, const B: usize>(
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
    let mut room = S::CARRY;
    for _ in 0..rows.rows {
        let mut done = 0;
        while done < rows.vectors {
            if room == 0 {
                for sums in sums.as_flattened_mut() {
                    *sums = simd.carry(*sums);
                }
                room = S::CARRY;
            }
            let count = room.min(rows.vectors - done);
            for group in done..done + count {
                // SAFETY: the group is inside the row, which the caller promises.
                let mut weights = [unsafe { simd.load(at.w[0].add(group * vector)) }; B];
                for b in 1..B {
                    // SAFETY: as above.
                    weights[b] = unsafe { simd.load(at.w[b].add(group * vector)) };
                }
                let codes = |p: usize| {
                    // SAFETY: as above.
                    unsafe { simd.broadcast(x[p].add(group * S::GROUP)) }
                };
                // Two sums at a time: of a pixel or of two pixels.
                if B == 2 {
                    let w = [weights[0], weights[B - 1]];
                    for p in 0..P {
                        let two = [sums[p][0], sums[p][B - 1]];
                        [sums[p][0], sums[p][B - 1]] =
                            simd.accumulate_two(two, [codes(p); 2], w, factors);
                    }
                } else {
                    for p in (1..P).step_by(2) {
                        let two = [sums[p - 1][0], sums[p][0]];
                        let x = [codes(p - 1), codes(p)];
                        [sums[p - 1][0], sums[p][0]] =
                            simd.accumulate_two(two, x, [weights[0]; 2], factors);
                    }
                }
                if B == 1 && !P.is_multiple_of(2) {
                    sums[P - 1][0] =
                        simd.accumulate(sums[P - 1][0], codes(P - 1), weights[0], factors);
                }
            }
            done += count;
            room -= count;
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
