//! The operator on u8 codes: one interface, one tiling, one file per instruction set.

pub(crate) mod box_sum;
mod by_taps;
mod forward;
pub(crate) mod fours;
pub(crate) mod generic;
pub(crate) mod maps;
pub(crate) mod output;
mod pack;
mod parts;
mod passes;
pub(crate) mod pixels;
pub(crate) mod rescale;
pub(crate) mod simd;
mod sized;
mod slide;
pub(crate) mod spin;
mod tile;
pub(crate) mod triples;

#[cfg(test)]
mod tests;

pub use forward::MapOutput;
pub use pack::PackedWeightsU8;
pub use pixels::{PIXEL_GROUP, PackedWeightsI8};
pub use rescale::{
    ChannelScales, CodeRange, CodeRows, CodeScale, FoldedScales, MapCodes, Residual,
};

use crate::{ConvGeometry, KernelError};
use fours::FourWeights;
use maps::{AddPixels, SpreadPixels};
use pack::{Layout, LookedUp};
use passes::{MapToCodes, ToCodes, ToMap};
use simd::SimdU8;
use triples::TripleWeights;

/// Receives rows of sums as they are finished: the first row's number, and the sums
/// `[rows][out_width][out_channels]`.
pub type RowSink<'a> = dyn FnMut(usize, &[i32]) + 'a;

/// One implementation of the adder convolution on unsigned 8-bit codes for one instruction set.
///
/// An object of this trait exists only where the CPU has the instructions. All implementations give
/// the exact sums of [`reference::forward_u8`](crate::reference::forward_u8), for any number of
/// threads. [`available_u8`](crate::available_u8) lists them and
/// [`select_u8`](crate::select_u8) picks one; the trait cannot be implemented outside this crate.
pub trait AdderKernelU8: Send + Sync + sealed::Sealed {
    /// The name by which [`select_u8`](crate::select_u8) finds the kernel, for example
    /// `avx512-vnni`.
    fn name(&self) -> &'static str;

    /// Rearranges the weights of one layer for this kernel.
    ///
    /// `shape` is `[out_channels, in_channels, height, width]` and `weights` has that many elements
    /// in that order.
    ///
    /// # Errors
    /// [`KernelError::ZeroDimension`], [`KernelError::SizeOverflow`] or
    /// [`KernelError::WrongLength`] when shape and weights do not describe a layer;
    /// [`KernelError::AccumulatorOverflow`] when an output has so many terms that a sum of
    /// differences of 255 would not fit an i32.
    fn pack(&self, shape: [usize; 4], weights: &[u8]) -> Result<PackedWeightsU8, KernelError>;

    /// As [`pack`](Self::pack), for a layer whose activations' codes, padding included, are at most `largest`. Where
    /// they and the weights are of 2 bits and kernels three columns wide, sums may be looked up, three terms at a time.
    ///
    /// With larger activations the sums are unspecified, though nothing else happens.
    ///
    /// # Errors
    /// As [`pack`](Self::pack).
    fn pack_small(
        &self,
        shape: [usize; 4],
        weights: &[u8],
        largest: u8,
    ) -> Result<PackedWeightsU8, KernelError>;

    /// Computes `y[n,i,j,o] = Σ |x − w|` exactly, which is at least 0; `x` and `y` are NHWC, and
    /// padded taps have `x = pad`.
    ///
    /// Work is divided over the images and output rows among the threads of the current rayon pool.
    /// Scratch memory per thread is a padded copy of a few rows and the sums of their windows. An
    /// input without padding whose channels are a multiple of 8 is not copied: where the previous
    /// layer can write its output into a padded map, a geometry of that map saves the copy.
    ///
    /// # Errors
    /// [`KernelError::SizeOverflow`] when the padded copy would exceed the address range,
    /// [`KernelError::WrongLength`] when `x` or `y` does not have the length that `geometry` gives,
    /// [`KernelError::WeightShape`] when the weights are of another shape,
    /// [`KernelError::PackedLayout`] when another kernel packed them. `y` is then untouched.
    fn forward(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        pad: u8,
        weights: &PackedWeightsU8,
        y: &mut [i32],
    ) -> Result<(), KernelError>;

    /// As [`forward`](Self::forward), for one image that is padded already, on the calling thread
    /// alone: as many rows at a time as `buffer` has room for go to `sink`, so that they are still in
    /// the cache when they are rescaled.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and [`KernelError::WrongLength`] when the geometry has padding,
    /// more than one image or channels that are not a multiple of 8, or the buffer has no room for
    /// a row. `sink` is then never called.
    fn forward_rows(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsU8,
        buffer: &mut [i32],
        sink: &mut RowSink<'_>,
    ) -> Result<(), KernelError>;

    /// Prepares the scales of a layer for [`forward_codes`](Self::forward_codes) and
    /// [`forward_map`](Self::forward_map).
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when there is not one for each of the weights' kernels.
    fn fold(
        &self,
        weights: &PackedWeightsU8,
        scales: &ChannelScales,
    ) -> Result<FoldedScales, KernelError>;

    /// As [`forward_rows`](Self::forward_rows) and [`rescale_to_codes`](Self::rescale_to_codes) in one.
    /// `scales` must have been folded with these weights.
    ///
    /// # Errors
    /// As these.
    fn forward_codes(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsU8,
        scales: &FoldedScales,
        to: CodeRows<'_>,
    ) -> Result<(), KernelError>;

    /// As [`forward_rows`](Self::forward_rows), [`rescale_to_map`](Self::rescale_to_map) and
    /// [`map_to_codes`](Self::map_to_codes) in one. `scales` must have been folded with these weights.
    ///
    /// # Errors
    /// As these.
    fn forward_map(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsU8,
        scales: &FoldedScales,
        output: MapOutput<'_, '_>,
    ) -> Result<(), KernelError>;

    /// The ordinary convolution Σ x·w of u8 pixels with i8 weights, exact, of one padded image whose
    /// channels are a multiple of [`PIXEL_GROUP`], delivered as by [`forward_rows`](Self::forward_rows).
    ///
    /// # Errors
    /// As [`forward_rows`](Self::forward_rows).
    fn convolve_rows(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsI8,
        buffer: &mut [i32],
        sink: &mut RowSink<'_>,
    ) -> Result<(), KernelError>;

    /// As [`fold`](Self::fold), for [`convolve_map`](Self::convolve_map).
    ///
    /// # Errors
    /// As [`fold`](Self::fold).
    fn fold_convolution(
        &self,
        weights: &PackedWeightsI8,
        scales: &ChannelScales,
    ) -> Result<FoldedScales, KernelError>;

    /// As [`convolve_rows`](Self::convolve_rows), [`rescale_to_map`](Self::rescale_to_map) and
    /// [`map_to_codes`](Self::map_to_codes) in one.
    ///
    /// # Errors
    /// As these.
    fn convolve_map(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsI8,
        scales: &FoldedScales,
        output: MapOutput<'_, '_>,
    ) -> Result<(), KernelError>;

    /// Turns `sums` (`[rows][width][channels]`) into codes: clamp((s·m + b) >> shift, 0, max)·factor.
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when sums, scales and map of codes do not fit each other.
    fn rescale_to_codes(
        &self,
        sums: &[i32],
        width: usize,
        scales: &ChannelScales,
        to: CodeRows<'_>,
    ) -> Result<(), KernelError>;

    /// Turns `sums` (`[pixels][channels]`) into a map of the same shape: (s·m + b) >> shift saturated to
    /// i16, plus the residual, saturated again, and at least 0 with `relu`.
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when sums, scales, residual and map do not fit each other.
    fn rescale_to_map(
        &self,
        sums: &[i32],
        scales: &ChannelScales,
        residual: Residual<'_>,
        relu: bool,
        map: &mut [i16],
    ) -> Result<(), KernelError>;

    /// Turns a `map` (`[rows][width][channels]`, `size` is width and channels) into codes:
    /// clamp(q, 0, max)·factor with q from the [`CodeScale`].
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when the maps do not fit each other.
    fn map_to_codes(
        &self,
        map: &[i16],
        size: [usize; 2],
        scale: CodeScale,
        to: CodeRows<'_>,
    ) -> Result<(), KernelError>;

    /// Adds each channel's values of neighbouring pixels (`map` is `[pixels][channels]`) to its sum, modulo 2³²;
    /// there is one sum for each channel.
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when the last pixel is not whole.
    fn add_pixels(&self, map: &[i16], sums: &mut [i32]) -> Result<(), KernelError>;

    /// Copies pixels of `channels` bytes into pixels of `pitch` bytes. The rest of each is left alone, or, if it is one
    /// byte behind three channels, set to 0.
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] when the last pixel is not whole or `to` has not room for exactly as many.
    fn spread_pixels(
        &self,
        pixels: &[u8],
        channels: usize,
        to: &mut [u8],
        pitch: usize,
    ) -> Result<(), KernelError>;
}

impl<S: SimdU8> AdderKernelU8 for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn pack(&self, shape: [usize; 4], weights: &[u8]) -> Result<PackedWeightsU8, KernelError> {
        PackedWeightsU8::new(S::NAME, Layout::of::<S>(), shape, weights)
    }

    fn pack_small(
        &self,
        shape: [usize; 4],
        weights: &[u8],
        largest: u8,
    ) -> Result<PackedWeightsU8, KernelError> {
        let largest = weights.iter().copied().fold(largest, u8::max);
        let (fours, triples) = (
            shape[0] >= S::FOURS && FourWeights::fit(shape, largest),
            self.looks_up() && TripleWeights::fit(shape, largest),
        );
        if !fours && !triples {
            return self.pack(shape, weights);
        }
        PackedWeightsU8::to_look_up(S::NAME, Layout::of::<S>(), shape, weights, |channels| {
            if fours {
                LookedUp::Fours(FourWeights::new(shape, weights, channels))
            } else {
                LookedUp::Triples(TripleWeights::new(shape, weights, channels))
            }
        })
    }

    fn forward(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        pad: u8,
        weights: &PackedWeightsU8,
        y: &mut [i32],
    ) -> Result<(), KernelError> {
        forward::forward(*self, geometry, x, pad, weights, y)
    }

    fn forward_rows(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsU8,
        buffer: &mut [i32],
        sink: &mut RowSink<'_>,
    ) -> Result<(), KernelError> {
        forward::forward_rows(*self, geometry, x, weights, buffer, sink)
    }

    fn fold(
        &self,
        weights: &PackedWeightsU8,
        scales: &ChannelScales,
    ) -> Result<FoldedScales, KernelError> {
        let bias = weights.all_biases();
        crate::error::check_len("scales", weights.shape()[0], scales.channels())?;
        Ok(FoldedScales::new(scales, bias))
    }

    fn forward_codes(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsU8,
        scales: &FoldedScales,
        to: CodeRows<'_>,
    ) -> Result<(), KernelError> {
        forward::forward_codes(*self, geometry, x, weights, scales, to)
    }

    fn forward_map(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsU8,
        scales: &FoldedScales,
        output: MapOutput<'_, '_>,
    ) -> Result<(), KernelError> {
        forward::forward_map(*self, geometry, x, weights, scales, output)
    }

    fn convolve_rows(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsI8,
        buffer: &mut [i32],
        sink: &mut RowSink<'_>,
    ) -> Result<(), KernelError> {
        forward::convolve_rows(*self, geometry, x, weights, buffer, sink)
    }

    fn fold_convolution(
        &self,
        weights: &PackedWeightsI8,
        scales: &ChannelScales,
    ) -> Result<FoldedScales, KernelError> {
        crate::error::check_len("scales", weights.shape()[0], scales.channels())?;
        Ok(FoldedScales::new(scales, std::iter::repeat(0)))
    }

    fn convolve_map(
        &self,
        geometry: &ConvGeometry,
        x: &[u8],
        weights: &PackedWeightsI8,
        scales: &FoldedScales,
        output: MapOutput<'_, '_>,
    ) -> Result<(), KernelError> {
        forward::convolve_map(*self, geometry, x, weights, scales, output)
    }

    fn rescale_to_codes(
        &self,
        sums: &[i32],
        width: usize,
        scales: &ChannelScales,
        to: CodeRows<'_>,
    ) -> Result<(), KernelError> {
        let task = ToCodes {
            sums,
            width,
            scales,
            to,
        };
        task.check()?;
        self.vectorize(task);
        Ok(())
    }

    fn rescale_to_map(
        &self,
        sums: &[i32],
        scales: &ChannelScales,
        residual: Residual<'_>,
        relu: bool,
        map: &mut [i16],
    ) -> Result<(), KernelError> {
        let task = ToMap {
            sums,
            scales,
            residual,
            relu,
            map,
        };
        task.check()?;
        self.vectorize(task);
        Ok(())
    }

    fn map_to_codes(
        &self,
        map: &[i16],
        [width, channels]: [usize; 2],
        scale: CodeScale,
        to: CodeRows<'_>,
    ) -> Result<(), KernelError> {
        let task = MapToCodes {
            map,
            width,
            channels,
            scale,
            to,
        };
        task.check()?;
        self.vectorize(task);
        Ok(())
    }

    fn add_pixels(&self, map: &[i16], sums: &mut [i32]) -> Result<(), KernelError> {
        let task = AddPixels { map, sums };
        task.check()?;
        self.vectorize(task);
        Ok(())
    }

    fn spread_pixels(
        &self,
        pixels: &[u8],
        channels: usize,
        to: &mut [u8],
        pitch: usize,
    ) -> Result<(), KernelError> {
        let task = SpreadPixels {
            pixels,
            channels,
            to,
            pitch,
        };
        task.check()?;
        self.vectorize(task);
        Ok(())
    }
}

pub(crate) mod sealed {
    use super::{simd::SimdU8, spin};

    /// What a kernel offers to this crate only.
    pub trait Sealed {
        /// Runs `rounds` of register-resident work and returns the number of terms in it.
        fn spin(&self, rounds: u64) -> u64;

        /// The forward pass in units of so many output rows, without the checks.
        #[cfg(test)]
        fn forward_in_units(
            &self,
            geometry: &crate::ConvGeometry,
            x: &[u8],
            pad: u8,
            weights: &super::PackedWeightsU8,
            y: &mut [i32],
            unit_rows: usize,
        );
    }

    impl<S: SimdU8> Sealed for S {
        fn spin(&self, rounds: u64) -> u64 {
            spin::run(*self, rounds)
        }

        #[cfg(test)]
        fn forward_in_units(
            &self,
            geometry: &crate::ConvGeometry,
            x: &[u8],
            pad: u8,
            weights: &super::PackedWeightsU8,
            y: &mut [i32],
            unit_rows: usize,
        ) {
            let layer = super::forward::Layer::new::<S>(geometry, x, pad, weights);
            layer
                .unwrap()
                .run_units(*self, y, unit_rows, rayon::current_num_threads());
        }
    }
}
