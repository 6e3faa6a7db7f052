//! The f32 operator: one interface, one tiling, one file per instruction set.

mod forward;
pub(crate) mod generic;
mod grad;
mod grad_input;
mod grad_weight;
mod pack;
pub(crate) mod simd;
pub(crate) mod spin;
mod tile;

#[cfg(test)]
mod grad_tests;
#[cfg(test)]
mod tests;

pub use grad::WeightGradient;
pub use pack::PackedWeightsF32;

use crate::{ConvGeometry, KernelError};
use simd::SimdF32;

/// One implementation of the f32 adder convolution for one instruction set.
///
/// An object of this trait exists only where the CPU has the instructions. All implementations give
/// bit-identical results, equal to [`reference::forward`](crate::reference::forward), for any
/// number of threads (see there for the order of the sum and for NaN and infinity).
/// [`available`](crate::available) lists them and [`select`](crate::select) picks one; the trait
/// cannot be implemented outside this crate.
pub trait AdderKernelF32: Send + Sync + sealed::Sealed {
    /// The name by which [`select`](crate::select) finds the kernel, for example `avx512`.
    fn name(&self) -> &'static str;

    /// Rearranges the weights of one layer for this kernel.
    ///
    /// `shape` is `[out_channels, in_channels, height, width]` and `weights` has that many elements
    /// in that order.
    ///
    /// # Errors
    /// [`KernelError::ZeroDimension`], [`KernelError::SizeOverflow`] or
    /// [`KernelError::WrongLength`] when shape and weights do not describe a layer.
    fn pack(&self, shape: [usize; 4], weights: &[f32]) -> Result<PackedWeightsF32, KernelError>;

    /// Computes `y[n,i,j,o] = −Σ |x − w|`; `x` and `y` are NHWC.
    ///
    /// Work is divided over the images and output rows among the threads of the current rayon pool.
    /// Scratch memory per thread is a padded copy of a few rows.
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when `x` or `y` does not have the length that `geometry` gives,
    /// [`KernelError::WeightShape`] when the weights are of another shape,
    /// [`KernelError::PackedLayout`] when another kernel packed them. `y` is then untouched.
    fn forward(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        weights: &PackedWeightsF32,
        y: &mut [f32],
    ) -> Result<(), KernelError>;

    /// The input gradient `∂x = Σ_o g · clamp(w − x, −1, 1)` (Chen et al., CVPR 2020, equation 6) of an
    /// output gradient `grad_y`; `x`, `grad_y` and `grad_x` are NHWC, `w` is OIHW.
    ///
    /// For clamps to ±k scale `x` and `w` by 1/k and the result by k. Sums are carried in f32; variants
    /// differ by rounding, the number of threads changes nothing. Images are divided among the
    /// threads of the current rayon pool.
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when a slice does not have the length that `geometry` gives.
    fn grad_input(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        w: &[f32],
        grad_y: &[f32],
        grad_x: &mut [f32],
    ) -> Result<(), KernelError>;

    /// The weight gradient of the whole batch, in the form that `kind` says; `grad_w` is OIHW.
    ///
    /// Sums are carried in f32, image by image on the calling thread. Variants differ by rounding.
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when a slice does not have the length that `geometry` gives.
    fn grad_weight(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        w: &[f32],
        grad_y: &[f32],
        kind: WeightGradient,
        grad_w: &mut [f32],
    ) -> Result<(), KernelError>;
}

impl<S: SimdF32> AdderKernelF32 for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn pack(&self, shape: [usize; 4], weights: &[f32]) -> Result<PackedWeightsF32, KernelError> {
        PackedWeightsF32::new(S::NAME, S::LANES, shape, weights)
    }

    fn forward(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        weights: &PackedWeightsF32,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        forward::forward(*self, geometry, x, weights, y)
    }

    fn grad_input(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        w: &[f32],
        grad_y: &[f32],
        grad_x: &mut [f32],
    ) -> Result<(), KernelError> {
        grad_input::grad_input(*self, geometry, x, w, grad_y, grad_x)
    }

    fn grad_weight(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        w: &[f32],
        grad_y: &[f32],
        kind: WeightGradient,
        grad_w: &mut [f32],
    ) -> Result<(), KernelError> {
        grad_weight::grad_weight(*self, geometry, x, w, grad_y, kind, grad_w)
    }
}

pub(crate) mod sealed {
    use super::{
        simd::SimdF32,
        spin::{self, Spin},
    };

    /// What a kernel offers to this crate only.
    pub trait Sealed {
        /// Runs `rounds` of register-resident work and returns the number of terms in it.
        fn spin(&self, spin: Spin, rounds: u64) -> u64;

        /// The forward pass in units of so many output rows, without the checks.
        #[cfg(test)]
        fn forward_in_units(
            &self,
            geometry: &crate::ConvGeometry,
            x: &[f32],
            weights: &super::PackedWeightsF32,
            y: &mut [f32],
            unit_rows: usize,
        );
    }

    impl<S: SimdF32> Sealed for S {
        fn spin(&self, spin: Spin, rounds: u64) -> u64 {
            spin::run(*self, spin, rounds)
        }

        #[cfg(test)]
        fn forward_in_units(
            &self,
            geometry: &crate::ConvGeometry,
            x: &[f32],
            weights: &super::PackedWeightsF32,
            y: &mut [f32],
            unit_rows: usize,
        ) {
            let layer = super::forward::Layer::new(geometry, x, weights);
            layer.run_units(*self, y, unit_rows, rayon::current_num_threads());
        }
    }
}
