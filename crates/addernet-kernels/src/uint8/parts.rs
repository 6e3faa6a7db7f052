//! The parts of what a [`Unit`] does, as tasks: [`SimdU8::vectorize`] makes a function of each. All of them in one function
//! would take the compiler three times as long, for registers are allocated a function at a time.

use super::{
    pack::LookedUp,
    simd::{SimdU8, Task},
    sized::{ANY, SEVEN, WIDTH},
    tile::Unit,
};

/// All sums by looking up.
pub(super) struct LookUp<'a, 'c> {
    pub(super) unit: Unit<'a, 'c>,
    pub(super) weights: &'a LookedUp,
}

impl Task for LookUp<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(mut self, simd: S) {
        match self.weights {
            LookedUp::Triples(weights) => self.unit.look_up(simd, weights),
            LookedUp::Fours(weights) => self.unit.look_up_fours(simd, weights),
        }
    }
}

/// [`Unit::in_rows`].
pub(super) struct InRows<'a, 'c, const B: usize> {
    pub(super) unit: Unit<'a, 'c>,
    pub(super) block: usize,
}

impl<const B: usize> Task for InRows<'_, '_, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(mut self, simd: S) {
        self.unit.in_rows::<S, B>(simd, self.block);
    }
}

/// [`Unit::anywhere`].
pub(super) struct Anywhere<'a, 'c, const B: usize> {
    pub(super) unit: Unit<'a, 'c>,
    pub(super) block: usize,
}

impl<const B: usize> Task for Anywhere<'_, '_, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(mut self, simd: S) {
        self.unit.anywhere::<S, B>(simd, self.block);
    }
}

/// [`Unit::largest_tiles`].
pub(super) struct LargestTiles<
    'a,
    'c,
    const B: usize,
    const SIZE: usize,
    const CHANNELS: usize,
    const STRIDE: usize,
> {
    pub(super) unit: Unit<'a, 'c>,
    pub(super) block: usize,
}

impl<const B: usize, const SIZE: usize, const CHANNELS: usize, const STRIDE: usize> Task
    for LargestTiles<'_, '_, B, SIZE, CHANNELS, STRIDE>
{
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(mut self, simd: S) {
        self.unit
            .largest_tiles::<S, B, SIZE, CHANNELS, STRIDE>(simd, self.block);
    }
}

/// Tiles of [`SEVEN`] pixels.
pub(super) struct SevenTiles<'a, 'c, const B: usize> {
    pub(super) unit: Unit<'a, 'c>,
    pub(super) block: usize,
}

impl<const B: usize> Task for SevenTiles<'_, '_, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdU8>(mut self, simd: S) {
        self.unit
            .tiles::<S, SEVEN, B, WIDTH, ANY, 1>(simd, self.block);
    }
}
