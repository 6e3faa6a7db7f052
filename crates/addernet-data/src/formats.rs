//! The parsers by themselves, for one file each.
//!
//! [`Dataset::open`](crate::Dataset::open) finds the files of a data set and reads them with these; they
//! are public for tools that have a single file, and for the fuzz targets. Every function takes the name
//! that its error messages use, allocates no more than a small multiple of what the input really holds,
//! and never panics, whatever the bytes.

pub use crate::cifar::{CifarVariant, Samples, read_cifar_binary, read_cifar_pickle};
pub use crate::idx::{IdxArray, read_idx};
