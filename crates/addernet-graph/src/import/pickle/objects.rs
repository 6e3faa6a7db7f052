//! What the calls of the known functions and classes stand for.

use std::borrow::Cow;
use std::collections::HashMap;

use addernet_pickle::{Heap, Id, Value};

use super::Result;
use super::globals::{Dtype, Global};
use super::tensor::{self, Storage, Tensor};

/// Pairs of key and value.
pub(in crate::import) type Entries<'h> = Cow<'h, [(Id, Id)]>;

/// The values of a file's pickles.
pub(in crate::import) struct Objects<'h, 'a> {
    heap: &'h Heap<'a, Global>,
    storages: HashMap<Id, Storage<'a>>,
    /// Element type and length by key: two references to one storage must agree.
    declared: HashMap<&'a str, (Dtype, usize)>,
}

impl<'h, 'a> Objects<'h, 'a> {
    /// Interprets all storages.
    pub(super) fn new(heap: &'h Heap<'a, Global>) -> Result<Self> {
        let mut objects = Self {
            heap,
            storages: HashMap::new(),
            declared: HashMap::new(),
        };
        for (id, name) in heap.persistent() {
            let (storage, elements) = tensor::storage(heap, name)?;
            let declared = (storage.dtype, elements);
            let key = storage.key;
            if *objects.declared.entry(key).or_insert(declared) != declared {
                let key = crate::error::one_line(key);
                return Err(
                    format!("its pickle describes storage `{key}` in two different ways").into(),
                );
            }
            objects.storages.insert(id, storage);
        }
        Ok(objects)
    }

    /// The values themselves.
    pub(in crate::import) fn heap(&self) -> &'h Heap<'a, Global> {
        self.heap
    }

    /// The declared element type and number of elements of the storage `key`.
    pub(in crate::import) fn declared(&self, key: &str) -> Option<(Dtype, usize)> {
        self.declared.get(key).copied()
    }

    /// The storage with a persistent identifier, and its number of elements.
    pub(super) fn storage(&self, id: Id) -> Option<(Storage<'a>, usize)> {
        let storage = *self.storages.get(&id)?;
        let (_, elements) = self.declared(storage.key)?;
        Some((storage, elements))
    }

    /// The value's Python type, for messages; if it is broken, the error says how.
    pub(in crate::import) fn type_name(&self, id: Id) -> Result<&'static str> {
        self.tensor(id)?;
        self.extents(id)?;
        Ok(match (self.heap.value(id), self.heap.call(id)) {
            (Value::Persistent(_), _) => "storage",
            (_, Some((global, _))) => global.makes(),
            _ => self.heap.type_name(id),
        })
    }

    /// Entries of a dictionary: `dict`, `OrderedDict()` or, from Python 2,
    /// `OrderedDict([[key, value], …])`. `None` for any other value.
    pub(in crate::import) fn entries(&self, id: Id) -> Result<Option<Entries<'h>>> {
        let heap = self.heap;
        let set = heap.entries(id).unwrap_or_default();
        let list = match heap.call(id) {
            None if matches!(heap.value(id), Value::Dict(_)) => return Ok(Some(set.into())),
            Some((Global::OrderedDict, [])) => return Ok(Some(set.into())),
            Some((Global::OrderedDict, &[list])) => heap.items(list),
            Some((Global::OrderedDict, _)) => None,
            _ => return Ok(None),
        };
        let list = list.ok_or("its pickle makes an OrderedDict from something that is no list")?;
        let mut entries = Vec::with_capacity(list.len() + set.len());
        for &pair in list {
            let Some(&[key, value]) = heap.items(pair) else {
                return Err(
                    "its pickle makes an OrderedDict from something else than pairs".into(),
                );
            };
            entries.push((key, value));
        }
        entries.extend(set);
        Ok(Some(entries.into()))
    }

    /// A tensor; `None` for any other value.
    pub(in crate::import) fn tensor(&self, id: Id) -> Result<Option<Tensor<'a>>> {
        /// A parameter around a tensor of a subclass around a tensor.
        const MAX_WRAPPERS: usize = 2;
        match self.heap.call(id) {
            Some((global, arguments)) => self.built(global, arguments, MAX_WRAPPERS),
            None => Ok(None),
        }
    }

    fn built(
        &self,
        global: Global,
        arguments: &[Id],
        wrappers: usize,
    ) -> Result<Option<Tensor<'a>>> {
        let (inner, complaint) = match global {
            Global::RebuildTensor | Global::RebuildTensorV2 => {
                return tensor::rebuild(self, arguments).map(Some);
            }
            Global::RebuildParameter => (
                arguments.first().and_then(|&tensor| self.heap.call(tensor)),
                "its pickle builds a parameter from something that is no tensor",
            ),
            Global::RebuildFromType => (
                match *arguments {
                    [function, _, arguments, ..] => self.deferred(function, arguments),
                    _ => None,
                },
                "its pickle builds a tensor of a type that is not supported",
            ),
            _ => return Ok(None),
        };
        let built = match inner.zip(wrappers.checked_sub(1)) {
            Some(((global, arguments), wrappers)) => self.built(global, arguments, wrappers)?,
            None => None,
        };
        built.map(Some).ok_or_else(|| complaint.into())
    }

    /// The call that a function and its arguments, as values, describe.
    fn deferred(&self, function: Id, arguments: Id) -> Option<(Global, &'h [Id])> {
        match *self.heap.value(function) {
            Value::Global(global) => Some((global, self.heap.items(arguments)?)),
            _ => None,
        }
    }

    /// Extents or strides: a tuple, a list or a `torch.Size`.
    pub(super) fn extents(&self, id: Id) -> Result<Option<&'h [Id]>> {
        match self.heap.call(id) {
            Some((Global::Size, &[sizes])) => Ok(self.heap.items(sizes)),
            Some((Global::Size, _)) => Err("its pickle holds a torch.Size without extents".into()),
            _ => Ok(self.heap.items(id)),
        }
    }
}
