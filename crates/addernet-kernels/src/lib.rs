//! The adder convolution `y = −Σ |x − w|`, on floats and on unsigned 8-bit codes: a scalar reference
//! and SIMD variants chosen at run time.
//!
//! ```
//! use addernet_kernels::{ConvGeometry, reference, select};
//!
//! // Two 8x8 images with 3 channels, a 3x3 layer with 5 kernels, padding 1.
//! let geometry = ConvGeometry::new([2, 8, 8, 3], 5, [3, 3], [1, 1], [1, 1])?;
//! let x: Vec<f32> = (0..geometry.in_len()).map(|i| (i as f32 * 0.37).sin()).collect();
//! let w: Vec<f32> = (0..geometry.weight_len()).map(|i| (i as f32 * 0.61).cos()).collect();
//!
//! let kernel = select(None)?; // the best for this CPU, or $ADDERNET_KERNEL
//! let packed = kernel.pack(geometry.weight_shape(), &w)?; // once per layer
//! let mut y = vec![0.0; geometry.out_len()];
//! kernel.forward(&geometry, &x, &packed, &mut y)?;
//!
//! let mut expected = vec![0.0; geometry.out_len()];
//! reference::forward(&geometry, &x, &w, &mut expected)?;
//! assert_eq!(y, expected); // bit for bit, on every CPU
//! # Ok::<(), addernet_kernels::KernelError>(())
//! ```
//!
//! The same on codes, where the sums are exact, positive integers:
//!
//! ```
//! use addernet_kernels::{ConvGeometry, reference, select_u8};
//!
//! let geometry = ConvGeometry::new([2, 8, 8, 3], 5, [3, 3], [1, 1], [1, 1])?;
//! let x: Vec<u8> = (0..geometry.in_len()).map(|i| (i * 37 % 256) as u8).collect();
//! let w: Vec<u8> = (0..geometry.weight_len()).map(|i| (i * 61 % 256) as u8).collect();
//!
//! let (kernel, pad) = (select_u8(None)?, 0); // `pad` is the code of the padding
//! let packed = kernel.pack(geometry.weight_shape(), &w)?;
//! let mut y = vec![0; geometry.out_len()];
//! kernel.forward(&geometry, &x, pad, &packed, &mut y)?;
//!
//! let mut expected = vec![0; geometry.out_len()];
//! reference::forward_u8(&geometry, &x, pad, &w, &mut expected)?;
//! assert_eq!(y, expected);
//! # Ok::<(), addernet_kernels::KernelError>(())
//! ```

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod aligned;
pub mod bench;
mod dispatch;
mod error;
mod fp32;
mod geometry;
pub mod peak;
#[cfg(test)]
mod pools;
pub mod reference;
mod rows;
mod uint8;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use aligned::AlignedVec;
pub use dispatch::{KERNEL_ENV, available, available_u8, select, select_u8};
pub use error::KernelError;
pub use fp32::{AdderKernelF32, PackedWeightsF32, WeightGradient};
pub use geometry::ConvGeometry;
pub use uint8::{
    AdderKernelU8, ChannelScales, CodeRange, CodeRows, CodeScale, FoldedScales, MapCodes,
    MapOutput, PIXEL_GROUP, PackedWeightsI8, PackedWeightsU8, Residual, RowSink,
};
