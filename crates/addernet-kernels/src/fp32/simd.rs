//! What the tiling needs from an instruction set.
#![allow(unsafe_code)]

use std::hint::black_box;

/// Work that is compiled once per instruction set; see [`SimdF32::vectorize`].
pub(crate) trait Task {
    /// What the work gives back.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, so that the intrinsics inside become
    /// single instructions of the caller, which has the target features.
    fn run<S: SimdF32>(self, simd: S) -> Self::Output;
}

/// f32 vectors of one instruction set.
///
/// The implementing type is a token: a value of it exists only if the CPU has the instructions,
/// which is what makes its methods safe to call. They are `#[inline(always)]` and must be called
/// from inside [`SimdF32::vectorize`] to be fast.
pub(crate) trait SimdF32: Copy + Send + Sync + 'static {
    /// One vector.
    type V: Copy;

    /// The kernel's name.
    const NAME: &'static str;
    /// Elements of a vector.
    const LANES: usize;
    /// Largest tile, in output pixels by weight vectors. Its accumulators, a weight vector each and
    /// a few temporaries must fit the register file.
    const TILE: [usize; 2];

    /// All lanes `value`.
    fn splat(self, value: f32) -> Self::V;

    /// Reads [`SimdF32::LANES`] floats.
    ///
    /// # Safety
    /// `from` must be valid for reads of that many floats; it need not be aligned.
    unsafe fn load(self, from: *const f32) -> Self::V;

    /// Writes [`SimdF32::LANES`] floats.
    ///
    /// # Safety
    /// `to` must be valid for writes of that many floats; it need not be aligned.
    unsafe fn store(self, to: *mut f32, value: Self::V);

    /// `a − b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;

    /// `acc + |x − w|`, each step rounded to f32.
    ///
    /// `one` is a vector of ones that the optimiser does not know: an implementation may compute
    /// the sum as `acc + |x − w| · 1`, which is rounded the same, where fused multiply-adds have
    /// pipes of their own.
    fn add_abs_diff(self, acc: Self::V, x: Self::V, w: Self::V, one: Self::V) -> Self::V;

    /// `a · b + c`, fused where the instruction set has it.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// `clamp(a − b, −1, 1)`; what a NaN becomes is unspecified.
    fn clamp_diff(self, a: Self::V, b: Self::V, one: Self::V) -> Self::V;

    /// Makes the optimiser forget what it knows about a vector: for loops that measure. Hiding a
    /// register behind empty inline assembly costs nothing; the default costs a load.
    #[inline(always)]
    fn forget(self, vector: &mut Self::V) {
        black_box(vector);
    }

    /// Runs `task` inside a function that is compiled for this instruction set.
    fn vectorize<T: Task>(self, task: T) -> T::Output;
}
