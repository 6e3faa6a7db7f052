//! A restricted reader of the pickles in PyTorch checkpoints.
//!
//! It is a stack machine over the opcodes that `torch.save` writes (protocols 2 to 5). It knows
//! the few functions that rebuild tensors; every other global is refused by its name, and nothing
//! is ever called. Memory and time are proportional to the pickle's length: values are a few bytes
//! that refer to containers in a heap, so that fetching one from the memo copies no content, and
//! text stays where it stands in the file.
//!
//! Existing readers were considered first. The `pytorch-reader` crate (0.22.1) executes nothing
//! either and reads the same files, but its memo copies values: a file of 1 MiB that names one
//! global with a long name and fetches it 2,000 times takes 2 GiB there. It also accepts any global
//! as an opaque value, where a checkpoint that names `os.system` should be refused aloud. The
//! `serde-pickle` crate knows no persistent identifiers, which are how tensors refer to their data.

mod call;
mod globals;
mod machine;
mod tensor;
mod value;

pub(super) use globals::Dtype;
pub(super) use machine::Pickle;
pub(super) use value::{Heap, MAX_RANK, Tensor, Value};

/// Why a pickle is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It names an object that a checkpoint has no use for.
    Forbidden {
        /// The object, `os.system`.
        global: String,
        /// What to do about it.
        advice: String,
    },
    /// It is damaged, or holds what this reader cannot represent.
    Invalid(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Invalid(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Refusal::Invalid(reason.to_owned())
    }
}

/// `Ok`, or why the pickle is refused.
pub(super) type Result<T> = std::result::Result<T, Refusal>;
