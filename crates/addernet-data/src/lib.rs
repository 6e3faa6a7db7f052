//! Image classification data sets for AdderNet.
//!
//! CIFAR-10 and CIFAR-100 (binary version and python pickles), MNIST and Fashion-MNIST (`idx`, plain
//! or gzipped), image folders in torchvision's `ImageFolder` layout, and [`shapes`](DatasetKind::Shapes),
//! a generated set that needs no files. A [`Dataset`] hands out raw `u8` images in HWC order; a
//! [`Transform`] turns them into normalised `f32`; [`batches`] puts both together into NHWC arrays.
//!
//! Data files are untrusted: sizes are checked before anything is allocated, nothing in a pickle is
//! ever executed, and every complaint names the file and the byte at which it went wrong.
//!
//! ```
//! use addernet_data::{Dataset, DatasetKind, OpenOptions, Split, Transform, batches, sequential_indices};
//!
//! # fn main() -> Result<(), addernet_data::DataError> {
//! let options = OpenOptions { shapes_len: Some(100), ..OpenOptions::default() };
//! let dataset = Dataset::open(DatasetKind::Shapes, None, Split::Test, &options)?;
//! let transform = Transform::eval(dataset.kind());
//! let indices = sequential_indices(&dataset, Some(50));
//! for batch in batches(&dataset, &indices, 32, &transform)? {
//!     let batch = batch?;
//!     assert_eq!(batch.images.shape()[1..], [32, 32, 3]);
//!     assert_eq!(batch.images.shape()[0], batch.labels.len());
//! }
//! # Ok(())
//! # }
//! ```

mod augmentation;
mod cifar;
mod dataset;
#[cfg(feature = "download")]
pub mod download;
mod error;
mod files;
pub mod formats;
mod idx;
mod imagefolder;
mod kind;
mod loader;
mod locate;
mod mixup;
mod mnist;
mod normalization;
mod rng;
mod sampling;
mod shapes;
mod transform;

pub use augmentation::{Augmentation, ResizedCrop};
pub use dataset::{Dataset, OpenOptions};
pub use error::DataError;
pub use imagefolder::{default_resize, image_files, load_image, load_image_for};
pub use kind::{DatasetKind, Split};
pub use loader::{Batch, Batches, batches};
pub use mixup::mixup;
pub use normalization::Normalization;
pub use sampling::{calibration_indices, sequential_indices, shuffled, shuffled_indices};
pub use transform::Transform;
