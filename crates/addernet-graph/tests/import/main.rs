//! Checkpoints of PyTorch and plain safetensors state dicts, sound and unsound ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod architectures;
#[path = "../common/mod.rs"]
mod common;
mod hostile_containers;
mod hostile_pickles;
mod state_dicts;
