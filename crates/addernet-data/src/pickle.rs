//! A restricted reader of python pickles: plain data and `numpy` byte arrays, nothing else.
//!
//! A pickle is a program for a stack machine that may call any python function. This reader knows the
//! few opcodes that protocols 2 to 5 use for numbers, strings, lists, tuples and dictionaries, and
//! accepts only the globals of [`Global`], which it records and never calls. Values live in one arena
//! and refer to each other by number: repeating a value costs four bytes, nesting costs no stack, and
//! strings stay slices of the input. The number of opcodes is bounded, so that a hostile file of any
//! size costs less than 100 MiB beyond its own bytes.
//!
//! Opcodes: CPython's `Lib/pickletools.py`.

mod machine;

use machine::Machine;

/// Number of a value in the arena.
pub(crate) type NodeId = u32;

/// The globals that may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    /// `numpy.core.multiarray._reconstruct`: an empty array, filled by its state.
    Reconstruct,
    /// `numpy.core.numeric._frombuffer`: an array around bytes (protocol 5).
    FromBuffer,
    /// `numpy.ndarray`, the class.
    NdArray,
    /// `numpy.dtype`.
    DType,
    /// `_codecs.encode`: how python 3 writes bytes in protocol 2.
    Encode,
}

impl Global {
    fn find(module: &[u8], name: &[u8]) -> Option<Self> {
        match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => {
                Some(Global::Reconstruct)
            }
            (b"numpy.core.numeric" | b"numpy._core.numeric", b"_frombuffer") => {
                Some(Global::FromBuffer)
            }
            (b"numpy", b"ndarray") => Some(Global::NdArray),
            (b"numpy", b"dtype") => Some(Global::DType),
            (b"_codecs", b"encode") => Some(Global::Encode),
            _ => None,
        }
    }
}

/// A value; containers refer to their members by number.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// `bytes`, a `bytearray`, or a python 2 `str`.
    Bytes(&'a [u8]),
    Text(&'a str),
    List(Vec<NodeId>),
    Tuple(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    Global(Global),
    /// What calling `callable` with `arguments` and then setting `state` would give.
    Object {
        callable: Global,
        arguments: NodeId,
        state: Option<NodeId>,
    },
}

/// What is wrong with a pickle, and where.
#[derive(Debug)]
pub(crate) struct PickleError {
    pub(crate) offset: usize,
    pub(crate) problem: String,
}

/// A pickle's values.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    nodes: Vec<(Value<'a>, usize)>,
    root: NodeId,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle up to its STOP opcode; bytes after it are ignored, as python does.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let mut machine = Machine::new(bytes);
        let root = machine.run()?;
        Ok(Self {
            nodes: machine.into_nodes(),
            root,
        })
    }

    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    pub(crate) fn value(&self, id: NodeId) -> &Value<'a> {
        &self.nodes[id as usize].0
    }

    /// Where in the input the value begins.
    pub(crate) fn offset(&self, id: NodeId) -> usize {
        self.nodes[id as usize].1
    }

    /// The bytes of a string of either python.
    pub(crate) fn string(&self, id: NodeId) -> Option<&'a [u8]> {
        match self.value(id) {
            Value::Bytes(bytes) => Some(bytes),
            Value::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// The value of a string key; of equal keys the last counts, as in python.
    pub(crate) fn get(&self, dict: &[(NodeId, NodeId)], key: &str) -> Option<NodeId> {
        let entry = dict
            .iter()
            .rev()
            .find(|(k, _)| self.string(*k) == Some(key.as_bytes()));
        entry.map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests;
