//! What the tiling needs from an instruction set.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of lanes are what the compiler vectorises"
)]

use super::{
    box_sum, fours, maps,
    rescale::{ChannelScales, CodeRange, CodeRows, LaneConstants, MapCodes, finish},
    triples::{Sums, Tile, Wide},
};
use std::hint::black_box;

/// A loop over up to 16 places of registers, written out: the compiler gives up on unrolling bodies as long
/// as these, and then keeps the registers in memory.
macro_rules! unrolled {
    ($p:ident to $end:expr, $body:block) => {
        unrolled!(@each $p ($p < $end) $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($p:ident to $end:expr, $step:expr, $body:block) => {
        unrolled!(@each $p ($p < $end && $p % $step == 0) $body
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@each $p:ident $condition:tt $body:block $($at:literal)*) => {
        $(
            let $p: usize = $at;
            if $condition $body
        )*
    };
}
pub(crate) use unrolled;

/// Work that is compiled once per instruction set; see [`SimdU8::vectorize`].
pub(crate) trait Task {
    /// What the work gives back.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, so that the intrinsics inside become
    /// single instructions of the caller, which has the target features.
    fn run<S: SimdU8>(self, simd: S) -> Self::Output;
}

/// The fixed-point constants of a vector of output channels.
#[derive(Clone, Copy)]
pub(crate) struct Constants {
    pub(crate) multiplier: *const i32,
    pub(crate) offset: *const i32,
    pub(crate) shift: *const u32,
}

impl Constants {
    /// Those from `channel` on.
    #[inline(always)]
    pub(crate) fn of(scales: &ChannelScales, channel: usize) -> Self {
        let (multiplier, offset, shift) = scales.from(channel);
        Self {
            multiplier: multiplier.as_ptr(),
            offset: offset.as_ptr(),
            shift: shift.as_ptr(),
        }
    }

    /// Copies of the constants of `lanes` lanes, at most [`MAX_LANES`].
    ///
    /// # Safety
    /// The constants must be valid for reads of as many numbers.
    #[inline(always)]
    unsafe fn lanes(self, first: usize, lanes: usize) -> LaneConstants {
        let mut all = LaneConstants::default();
        for lane in 0..lanes {
            // SAFETY: the caller promises them.
            unsafe {
                all.multiplier[lane] = *self.multiplier.add(first + lane);
                all.offset[lane] = *self.offset.add(first + lane);
                all.shift[lane] = *self.shift.add(first + lane);
            }
        }
        all
    }
}

/// A window of pixels as the ordinary convolution reads it.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only AVX2 multiplies windows in pairs")
)]
pub(crate) struct DotWindow {
    /// Rows.
    pub(crate) height: usize,
    /// Groups of 4 codes in a row.
    pub(crate) groups: usize,
    /// Codes from a row to the next.
    pub(crate) row_len: usize,
}

/// No instruction set has longer vectors of sums.
pub(crate) const MAX_LANES: usize = 16;

/// Vectors of u8 codes and of their sums in one instruction set.
///
/// A vector of codes holds a group of neighbouring input channels of each of [`SimdU8::LANES`]
/// neighbouring output channels; a vector of sums holds one sum per output channel.
///
/// The implementing type is a token: a value of it exists only if the CPU has the instructions,
/// which is what makes its methods safe to call. They are `#[inline(always)]` and must be called
/// from inside [`SimdU8::vectorize`] to be fast.
pub(crate) trait SimdU8: Copy + Send + Sync + 'static {
    /// `LANES · GROUP` codes.
    type Codes: Copy;
    /// `LANES` sums, modulo 2³².
    type Sums: Copy;
    /// Constants that [`SimdU8::accumulate`] works with.
    type Factors: Copy;

    /// The kernel's name.
    const NAME: &'static str;
    /// Output channels of a vector.
    const LANES: usize;
    /// Input channels of a vector.
    const GROUP: usize;
    /// Whether the kernel sums `2·max(x, w)` instead of `|x − w| = 2·max(x, w) − x − w`. The sums
    /// must then start with what is missing.
    const MAX_IDENTITY: bool;
    /// Largest tile of two weight vectors, in output pixels. Its accumulators, the weight vectors and
    /// a few temporaries must fit the register file. 0 if tiles have one weight vector only.
    const PIXELS_2: usize;
    /// Largest tile of one weight vector, in output pixels.
    const PIXELS_1: usize;

    /// In which place of a vector each output channel's group is.
    const ORDER: [usize; MAX_LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    /// Whether layers of common sizes have code of their own, in which these are constants.
    const SIZED: bool = false;
    /// Whether its tiles slide along a row, which needs the register file to have room for the weights of three taps
    /// beside a tile's sums.
    const SLIDE: bool;
    /// So many vectors' terms fit the sums, between one [`SimdU8::carry`] and the next. No tile that slides carries.
    const CARRY: usize = usize::MAX;
    /// From how many output channels on [`SimdU8::look_up_fours`] is faster than [`SimdU8::accumulate`], if it and
    /// [`SimdU8::widen`] are there.
    const FOURS: usize = usize::MAX;
    /// Whether [`SimdU8::window_sums`] is there.
    const WINDOW_SUMS: bool = false;
    /// Largest tile of [`SimdU8::dot`], in output pixels, on sums of 16 lanes or of two vectors of 8; 0 if it is not
    /// there.
    const DOT: usize = 0;
    /// Whether [`SimdU8::dot`] takes [pairs of words](super::pixels::PackedWeightsI8).
    const DOT_WORDS: bool = false;
    /// Whether [`SimdU8::dot_pair`] is there.
    const DOT_PAIR: bool = false;

    /// [`SimdU8::GROUP`] codes, the same in every lane.
    ///
    /// # Safety
    /// `from` must be valid for reads of that many bytes; it need not be aligned.
    unsafe fn broadcast(self, from: *const u8) -> Self::Codes;

    /// Reads `LANES · GROUP` codes.
    ///
    /// # Safety
    /// `from` must be valid for reads of that many bytes; it need not be aligned.
    unsafe fn load(self, from: *const u8) -> Self::Codes;

    /// The sums before the first term: 0, or `x_sum` in every lane with the max identity. The weights'
    /// part of that identity, the same for every pixel, is added when a tile is done.
    ///
    /// # Safety
    /// With the max identity `x_sum` must be valid for reads of one number. Without it it is not read.
    unsafe fn start(self, x_sum: *const i32) -> Self::Sums;

    /// Writes minus the sum of each pixel's channels; `x` holds as many pixels as `sums`.
    #[inline(always)]
    fn pixel_sums(self, x: &[u8], channels: usize, sums: &mut [i32]) {
        box_sum::pixel_sums(x, channels, sums);
    }

    /// Writes minus the sum of the window of 3 x 3 pixels, of 16 or 32 channels, at each pixel of some rows: `pitch` of
    /// each row, which are a multiple of [`SUMMED`](box_sum::SUMMED) bytes. `x` goes from the first row's first pixel,
    /// whose successor in the next row is `row_len` further, through the two rows behind the last one to what is read
    /// of the second. Only where [`SimdU8::WINDOW_SUMS`].
    #[inline(always)]
    fn window_sums(
        self,
        _x: &[u8],
        _channels: usize,
        _row_len: usize,
        _sums: &mut [i32],
        _pitch: usize,
    ) {
    }

    /// Appends a zero to each pixel; there are as many of both.
    #[inline(always)]
    fn three_to_four(self, from: &[[u8; 3]], to: &mut [[u8; 4]]) {
        maps::three_to_four(from, to);
    }

    /// The constants of [`SimdU8::accumulate`], to be made once, right before a loop. What they are is hidden
    /// from the compiler where it would otherwise have each instruction read them from memory, which takes as
    /// many loads as there are additions.
    fn factors(self) -> Self::Factors;

    /// Adds each lane's `|x − w|` (or `2·max(x, w)`) to its sum. The number of terms is bounded so
    /// that the end of the sum fits an i32. `factors` are [`SimdU8::factors`].
    fn accumulate(
        self,
        sums: Self::Sums,
        x: Self::Codes,
        w: Self::Codes,
        factors: Self::Factors,
    ) -> Self::Sums;

    /// [`SimdU8::accumulate`] of two sums. Where an instruction set has one order of the instructions that is
    /// faster than others, this has it.
    #[inline(always)]
    fn accumulate_two(
        self,
        sums: [Self::Sums; 2],
        x: [Self::Codes; 2],
        w: [Self::Codes; 2],
        factors: Self::Factors,
    ) -> [Self::Sums; 2] {
        [
            self.accumulate(sums[0], x[0], w[0], factors),
            self.accumulate(sums[1], x[1], w[1], factors),
        ]
    }

    /// Makes room in the sums for [`SimdU8::CARRY`] vectors' terms.
    #[inline(always)]
    fn carry(self, sums: Self::Sums) -> Self::Sums {
        sums
    }

    /// Adds what the weights contribute to the max identity.
    ///
    /// # Safety
    /// `bias` must hold [`SimdU8::LANES`] numbers.
    #[inline(always)]
    unsafe fn add_bias(self, sums: Self::Sums, _bias: &[i32]) -> Self::Sums {
        sums
    }

    /// Writes [`SimdU8::LANES`] sums.
    ///
    /// # Safety
    /// `to` must be valid for writes of that many numbers; it need not be aligned.
    unsafe fn store(self, to: *mut i32, sums: Self::Sums);

    /// Scales a tile's sums and writes its codes: those of pixel p from `to + offset(p)` on.
    ///
    /// # Safety
    /// `constants` must be valid for reads and each pixel's codes for writes of `B` ·
    /// [`SimdU8::LANES`] numbers.
    #[inline(always)]
    unsafe fn store_codes<const P: usize, const B: usize>(
        self,
        to: *mut u8,
        offset: impl Fn(usize) -> usize,
        sums: &[[Self::Sums; B]; P],
        constants: Constants,
        range: CodeRange,
    ) {
        // SAFETY: the caller promises constants and codes.
        unsafe { portable_codes(self, to, offset, sums, constants, range) }
    }

    /// Scales a tile's sums, saturates them to i16, adds the residual, saturates again and raises them to
    /// `low`; those of pixel p go to `map + offset(p)`, and their residuals are as far from `residual`.
    /// Each of `codes` gets their codes, those of pixel p from `place(rows, p)` on.
    ///
    /// # Safety
    /// `constants` and each pixel's residuals must be valid for reads, its values and codes for writes of
    /// `B` · [`SimdU8::LANES`] numbers.
    #[expect(clippy::too_many_arguments, reason = "one operation on a tile")]
    #[inline(always)]
    unsafe fn store_map<const P: usize, const B: usize>(
        self,
        map: *mut i16,
        offset: impl Fn(usize) -> usize,
        sums: &[[Self::Sums; B]; P],
        constants: Constants,
        residual: Option<*const i16>,
        low: i16,
        codes: &mut [MapCodes<'_>],
        place: impl Fn(&CodeRows<'_>, usize) -> usize,
    ) {
        // SAFETY: the caller promises constants, residuals, values and codes.
        unsafe {
            portable_map(
                self, map, offset, sums, constants, residual, low, codes, place,
            );
        }
    }

    /// Joins fours of codes below 4 to what says where their row of [`ROWS`](fours::ROWS) begins; one number each.
    #[inline(always)]
    fn join_fours(self, codes: &[u8], to: &mut [u16]) {
        fours::portable_join(codes, to);
    }

    /// The first [`SimdU8::LANES`] of some sums; only where [`SimdU8::FOURS`].
    #[inline(always)]
    fn widen(self, _sums: &[u16]) -> Self::Sums {
        // SAFETY: there is a number.
        unsafe { self.start(&0) }
    }

    /// Adds up the terms of `P` pixels by `B` blocks of 16 kernels, in `sums` that are 0 before; only where
    /// [`SimdU8::FOURS`].
    ///
    /// # Safety
    /// Each `x` must be valid for reads of the rows of a window of [joined](SimdU8::join_fours) codes, each `w` of a
    /// block of places.
    #[inline(always)]
    unsafe fn look_up_fours<const P: usize, const B: usize>(
        self,
        _x: [*const u16; P],
        _w: [*const u8; B],
        _window: fours::Window,
        _sums: &mut [fours::Sums; B],
    ) {
    }

    /// The same address, of which the compiler does not know that it is the same, where it would otherwise keep what
    /// it read in registers, and there are too few.
    #[inline(always)]
    fn reread(self, from: *const u8) -> *const u8 {
        from
    }

    /// Adds to each lane's sum its products of 4 pixel values and weights; only where [`SimdU8::DOT`].
    ///
    /// # Safety
    /// `x` must be valid for reads of 4 bytes, `w` for 4 weights in each lane.
    #[inline(always)]
    unsafe fn dot(self, sums: Self::Sums, _x: *const u8, _w: *const u8) -> Self::Sums {
        sums
    }

    /// The sums of products of two pixels' windows, from `x` on each, with the kernels of 16 channels; only where
    /// [`SimdU8::DOT_PAIR`].
    ///
    /// # Safety
    /// `x` must be valid for reads of the windows, `w` for the weights of the block: 64 for each group.
    #[inline(always)]
    unsafe fn dot_pair(
        self,
        _x: [*const u8; 2],
        _window: DotWindow,
        _w: *const i8,
    ) -> [[i32; 16]; 2] {
        [[0; 16]; 2]
    }

    /// Whether [`SimdU8::look_up`] is there, on sums of 16 lanes.
    #[inline(always)]
    fn looks_up(self) -> bool {
        false
    }

    /// Puts the bytes of 64 pixels, `distance` apart, in order of channels: `rows` of them, at most 16, `pitch` apart, each of
    /// the first `pixels`, a multiple of 16. Only where [`SimdU8::looks_up`].
    ///
    /// # Safety
    /// Each of the 64 pixels must be valid for reads of 16 bytes, `to` for writes of the rows.
    #[inline(always)]
    unsafe fn transpose(
        self,
        _from: *const u8,
        _distance: usize,
        _to: *mut u8,
        _pitch: usize,
        [_rows, _pixels]: [usize; 2],
    ) {
    }

    /// Joins threes of codes, each below 4, that are `distance` apart: 16·x₁ + 4·x₂ + x₃ for each of `len` neighbouring x₁.
    /// Only where [`SimdU8::looks_up`].
    ///
    /// # Safety
    /// `from` must be valid for reads of `len` bytes and two distances more, `to` for writes of `len` and 63 more.
    #[inline(always)]
    unsafe fn join(self, _from: *const u8, _distance: usize, _len: usize, _to: *mut u8) {}

    /// The sums of `vectors` times 64 pixels by 16 kernels, all of them without the weights' part of the max
    /// identity; only where [`SimdU8::looks_up`].
    ///
    /// # Safety
    /// From each of the tile's offsets on there must be a byte for each pixel to read, and 16 tables for each
    /// offset, which must be those of [`TABLES`](super::triples::TABLES).
    #[inline(always)]
    unsafe fn look_up(self, _tile: Tile<'_>, _vectors: usize, _wide: &mut Wide<Self::Sums>) {}

    /// The sums of one vector of pixels, those of 16 kernels side by side; only where [`SimdU8::looks_up`].
    ///
    /// # Safety
    /// [`SimdU8::look_up`] must have written `wide` for a tile of more than `vector` vectors.
    #[inline(always)]
    unsafe fn in_order(
        self,
        _wide: &Wide<Self::Sums>,
        _vector: usize,
        _sums: &mut Sums<Self::Sums>,
    ) {
    }

    /// Makes the optimiser forget what it knows about a vector: for loops that measure. Hiding a
    /// register behind empty inline assembly costs nothing; the default costs a load.
    #[inline(always)]
    fn forget(self, codes: &mut Self::Codes) {
        black_box(codes);
    }

    /// Runs `task` inside a function of its own, which is compiled for this instruction set and never inlined.
    fn vectorize<T: Task>(self, task: T) -> T::Output;
}

/// [`SimdU8::store_codes`] for any instruction set, lane by lane.
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn portable_codes<S: SimdU8, const P: usize, const B: usize>(
    simd: S,
    to: *mut u8,
    offset: impl Fn(usize) -> usize,
    sums: &[[S::Sums; B]; P],
    constants: Constants,
    range: CodeRange,
) {
    for b in 0..B {
        // SAFETY: the caller promises the constants.
        let constants = unsafe { constants.lanes(b * S::LANES, S::LANES) };
        for (p, sums) in sums.iter().enumerate() {
            let mut lanes = [0; MAX_LANES];
            // SAFETY: no vector has more lanes.
            unsafe { simd.store(lanes.as_mut_ptr(), sums[b]) };
            let codes = constants.scale(&lanes).map(|z| range.code(z));
            // SAFETY: the caller promises the codes.
            unsafe {
                let to = to.add(offset(p) + b * S::LANES);
                std::ptr::copy_nonoverlapping(codes.as_ptr(), to, S::LANES);
            }
        }
    }
}

/// [`SimdU8::store_map`] for any instruction set, lane by lane.
///
/// # Safety
/// As there.
#[expect(clippy::too_many_arguments, reason = "one operation on a tile")]
#[inline(always)]
pub(crate) unsafe fn portable_map<S: SimdU8, const P: usize, const B: usize>(
    simd: S,
    map: *mut i16,
    offset: impl Fn(usize) -> usize,
    sums: &[[S::Sums; B]; P],
    constants: Constants,
    residual: Option<*const i16>,
    low: i16,
    codes: &mut [MapCodes<'_>],
    place: impl Fn(&CodeRows<'_>, usize) -> usize,
) {
    for b in 0..B {
        // SAFETY: the caller promises the constants.
        let constants = unsafe { constants.lanes(b * S::LANES, S::LANES) };
        for (p, sums) in sums.iter().enumerate() {
            let mut lanes = [0; MAX_LANES];
            let mut added = [0; MAX_LANES];
            let at = offset(p) + b * S::LANES;
            // SAFETY: no vector has more lanes; the caller promises residuals.
            unsafe {
                simd.store(lanes.as_mut_ptr(), sums[b]);
                if let Some(residual) = residual {
                    let from = residual.add(at);
                    std::ptr::copy_nonoverlapping(from, added.as_mut_ptr(), S::LANES);
                }
            }
            let z = constants.scale(&lanes);
            let mut values = [0; MAX_LANES];
            for lane in 0..MAX_LANES {
                values[lane] = finish(z[lane], added[lane], low);
            }
            // SAFETY: the caller promises values.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), map.add(at), S::LANES) };
            for MapCodes { scale, rows } in codes.iter_mut() {
                let to = place(rows, p) + b * S::LANES;
                let codes = values.map(|v| rows.range.code(scale.scale(v)));
                // SAFETY: the caller promises codes.
                unsafe {
                    let to = rows.codes.as_mut_ptr().add(to);
                    std::ptr::copy_nonoverlapping(codes.as_ptr(), to, S::LANES);
                }
            }
        }
    }
}
