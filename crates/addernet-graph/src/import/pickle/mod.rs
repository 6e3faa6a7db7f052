//! The pickles in PyTorch checkpoints: what the values that [`addernet_pickle`] reads stand for.
//!
//! A pickle may name the few functions that rebuild tensors, and harmless objects that are saved
//! beside them; every other global is refused by its name, and nothing is ever called. Calls are
//! interpreted where the state dict leads to them.

mod globals;
mod objects;
mod tensor;

use addernet_pickle::{Heap, Id, PickleError, Problem};

pub(super) use globals::Dtype;
use globals::Global;
pub(super) use objects::{Entries, Objects};
pub(super) use tensor::{MAX_RANK, Tensor};

/// Most operations that a file's pickles may have together. A tensor takes about forty.
const MAX_OPERATIONS: usize = 4_000_000;
/// Longest name of a parameter or a storage, in bytes. A pickle can repeat a name for two bytes, and
/// all of it is read wherever it stands.
pub(super) const MAX_NAME: usize = 1 << 12;

/// A reader of a file's pickles.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    inner: addernet_pickle::Reader<'a, Global>,
}

impl<'a> Reader<'a> {
    /// A reader that starts at the first of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let inner = addernet_pickle::Reader::new(bytes, MAX_OPERATIONS, Global::find);
        Self { bytes, inner }
    }

    /// Offset of the next byte to be read.
    pub(super) fn position(&self) -> usize {
        self.inner.position()
    }

    /// Reads the next pickle and returns its value.
    pub(super) fn read(&mut self) -> Result<Id> {
        let read = self.inner.read();
        read.map_err(|error| Refusal::new(error, self.bytes))
    }

    /// The values read so far.
    pub(super) fn heap(&self) -> &Heap<'a, Global> {
        self.inner.heap()
    }

    /// What they stand for.
    pub(super) fn objects(&self) -> Result<Objects<'_, 'a>> {
        Objects::new(self.heap())
    }
}

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

impl Refusal {
    fn new(error: PickleError, pickle: &[u8]) -> Self {
        match error.problem {
            Problem::Forbidden(global) => {
                let advice = globals::advice(&global, pickle);
                Refusal::Forbidden { global, advice }
            }
            Problem::TooLong(_) => {
                format!("its pickle, at {error}; keep only the state dict in it").into()
            }
            _ => format!("its pickle, at {error}").into(),
        }
    }
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
