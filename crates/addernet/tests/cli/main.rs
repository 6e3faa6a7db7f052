//! The command `addernet`, run as a user runs it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod analyze;
mod bad_input;
mod bench;
mod cifar10;
mod common;
mod cost;
mod eval;
mod inspect;
#[cfg(unix)]
mod interrupt;
mod model;
mod predict;
mod quantize;
mod sweep;
#[cfg(feature = "train")]
mod train;
mod usage;
