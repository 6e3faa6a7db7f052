//! What a pickle's values become.

use std::collections::HashMap;

use super::globals::{Dtype, Global};

/// Largest number of dimensions of a tensor.
pub(in crate::import) const MAX_RANK: usize = 8;

/// A Python value. Containers live in a [`Heap`], so that a value is copied in constant time and
/// memory, nesting needs no recursion, and a container may hold itself.
#[derive(Clone, Copy, Debug)]
pub(in crate::import) enum Value<'a> {
    /// `None`, a truth value, a floating-point number: nothing that a tensor depends on.
    Scalar,
    /// An integer of 64 bits; longer ones are [`Value::Scalar`].
    Int(i64),
    /// Text, where it stands in the pickle.
    Str(&'a str),
    /// Tuple, list or set: an index into [`Heap::sequences`].
    Sequence(usize),
    /// Dictionary: an index into [`Heap::dicts`].
    Dict(usize),
    /// A function or class.
    Global(Global),
    /// A tensor's storage: an index into [`Heap::storages`].
    Storage(usize),
    /// A tensor: an index into [`Heap::tensors`].
    Tensor(usize),
    /// A value that is not interpreted, by its Python type.
    Opaque(&'static str),
}

impl Value<'_> {
    /// The value's Python type, for messages.
    pub(in crate::import) fn type_name(self) -> &'static str {
        match self {
            Value::Scalar => "NoneType, bool or float",
            Value::Int(_) => "int",
            Value::Str(_) => "str",
            Value::Sequence(_) => "list",
            Value::Dict(_) => "dict",
            Value::Global(_) => "type",
            Value::Storage(_) => "storage",
            Value::Tensor(_) => "tensor",
            Value::Opaque(name) => name,
        }
    }
}

/// A named run of elements in the file.
#[derive(Clone, Copy, Debug)]
pub(in crate::import) struct Storage<'a> {
    /// Its name in the file.
    pub(in crate::import) key: &'a str,
    /// Element type.
    pub(in crate::import) dtype: Dtype,
    /// Number of elements of the root storage.
    pub(in crate::import) elements: usize,
    /// First element of the view of it that the pickle describes; 0 in all but very old files.
    pub(in crate::import) offset: usize,
}

/// A strided view of a storage that lies within it and has no more elements than it.
#[derive(Clone, Copy, Debug)]
pub(in crate::import) struct Tensor {
    /// Index into [`Heap::storages`].
    pub(in crate::import) storage: usize,
    /// First element, in elements of the root storage.
    pub(in crate::import) offset: usize,
    rank: usize,
    shape: [usize; MAX_RANK],
    stride: [usize; MAX_RANK],
}

impl Tensor {
    /// `None` if shape and stride differ in length or have more than [`MAX_RANK`] entries.
    pub(super) fn new(
        storage: usize,
        offset: usize,
        shape: &[usize],
        stride: &[usize],
    ) -> Option<Self> {
        let rank = shape.len();
        let mut tensor = Self {
            storage,
            offset,
            rank,
            shape: [0; MAX_RANK],
            stride: [0; MAX_RANK],
        };
        tensor.shape.get_mut(..rank)?.copy_from_slice(shape);
        if stride.len() != rank {
            return None;
        }
        tensor.stride[..rank].copy_from_slice(stride);
        Some(tensor)
    }

    /// Extents, outermost first.
    pub(in crate::import) fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }

    /// Distance between neighbours along each dimension, in elements.
    pub(in crate::import) fn stride(&self) -> &[usize] {
        &self.stride[..self.rank]
    }
}

/// Everything the pickles of one file built.
#[derive(Default)]
pub(in crate::import) struct Heap<'a> {
    /// Tuples, lists and sets.
    pub(in crate::import) sequences: Vec<Vec<Value<'a>>>,
    /// Dictionaries: pairs in the order they were set; of equal keys the last counts.
    pub(in crate::import) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    /// Storages, as often as the pickle refers to them.
    pub(in crate::import) storages: Vec<Storage<'a>>,
    /// Tensors.
    pub(in crate::import) tensors: Vec<Tensor>,
    /// Declared element type and length by key: two references to one storage must agree.
    pub(super) declared: HashMap<&'a str, (Dtype, usize)>,
}

impl<'a> Heap<'a> {
    /// The declared element type and number of elements of the storage `key`.
    pub(in crate::import) fn declared(&self, key: &str) -> Option<(Dtype, usize)> {
        self.declared.get(key).copied()
    }

    pub(super) fn sequence(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.sequences.push(items);
        Value::Sequence(self.sequences.len() - 1)
    }

    pub(super) fn dict(&mut self, items: Vec<(Value<'a>, Value<'a>)>) -> Value<'a> {
        self.dicts.push(items);
        Value::Dict(self.dicts.len() - 1)
    }
}
