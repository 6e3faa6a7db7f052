//! What a pickle's values become.

use std::num::NonZeroU32;

/// Number of a value in its [`Heap`]. Tuples and calls refer to values with smaller numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(NonZeroU32);

impl Id {
    pub(crate) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A Python value; `G` is what the caller knows functions and classes as.
#[derive(Debug)]
pub enum Value<'a, G> {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer one: little-endian, two's complement.
    BigInt(&'a [u8]),
    /// A floating-point number.
    Float(f64),
    /// Text, or a Python 2 `str` that is UTF-8.
    Text(&'a str),
    /// `bytes`, a `bytearray`, or what should be text and is not UTF-8: any other Python 2 `str`,
    /// text with lone surrogates.
    Bytes(&'a [u8]),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A set or frozenset, as written: nothing is compared.
    Set(Vec<Id>),
    /// A dictionary: pairs in the order in which they were set; of equal keys the last counts.
    Dict(Vec<(Id, Id)>),
    /// A function or class.
    Global(G),
    /// What a call gives.
    Object(Object),
    /// What the writer keeps outside of the pickle under this identifier.
    Persistent(Id),
}

/// A recorded call, and what was done to its result; [`Heap`] gives access to it.
#[derive(Debug)]
pub struct Object {
    pub(crate) callable: Id,
    pub(crate) arguments: Id,
    pub(crate) state: Option<Id>,
    pub(crate) items: Option<Id>,
    pub(crate) entries: Option<Id>,
}

/// All values that a [`Reader`](crate::Reader) has built.
#[derive(Debug)]
pub struct Heap<'a, G> {
    values: Vec<(Value<'a, G>, usize)>,
}

impl<'a, G: Copy> Heap<'a, G> {
    pub(crate) fn new() -> Self {
        Self { values: Vec::new() }
    }

    /// Adds a value that the pickle describes at `offset`; `None` if there are too many.
    pub(crate) fn add(&mut self, value: Value<'a, G>, offset: usize) -> Option<Id> {
        let number = u32::try_from(self.values.len()).ok()?.checked_add(1)?;
        self.values.push((value, offset));
        NonZeroU32::new(number).map(Id)
    }

    pub(crate) fn value_mut(&mut self, id: Id) -> &mut Value<'a, G> {
        &mut self.values[id.index()].0
    }

    /// The value `id`, which has to be of this heap.
    pub fn value(&self, id: Id) -> &Value<'a, G> {
        &self.values[id.index()].0
    }

    /// Where in the input the value begins: the operation that made it, in bytes.
    pub fn offset(&self, id: Id) -> usize {
        self.values[id.index()].1
    }

    /// All persistent values in the order of the input, each with its identifier.
    pub fn persistent(&self) -> impl Iterator<Item = (Id, Id)> {
        let numbers = (1..).map_while(NonZeroU32::new).map(Id);
        let numbered = numbers.zip(&self.values);
        numbered.filter_map(|(id, (value, _))| match value {
            Value::Persistent(name) => Some((id, *name)),
            _ => None,
        })
    }

    /// Text.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        match *self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes, or text as UTF-8.
    pub fn bytes(&self, id: Id) -> Option<&'a [u8]> {
        match *self.value(id) {
            Value::Bytes(bytes) => Some(bytes),
            Value::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Members of a list, a tuple or a set, or what was appended to an object.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(items) | Value::Tuple(items) | Value::Set(items) => Some(items),
            Value::Object(object) => self.items(object.items?),
            _ => None,
        }
    }

    /// Entries of a dictionary, or what was set in an object as in a dictionary.
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.value(id) {
            Value::Dict(entries) => Some(entries),
            Value::Object(object) => self.entries(object.entries?),
            _ => None,
        }
    }

    /// Function or class and arguments of a call; `None` for any other value, and for calls of what
    /// another call gave. Keyword arguments are not recorded.
    pub fn call(&self, id: Id) -> Option<(G, &[Id])> {
        let Value::Object(object) = self.value(id) else {
            return None;
        };
        match *self.value(object.callable) {
            Value::Global(global) => Some((global, self.items(object.arguments)?)),
            _ => None,
        }
    }

    /// The state that was set in an object, if any.
    pub fn state(&self, id: Id) -> Option<Id> {
        match self.value(id) {
            Value::Object(object) => object.state,
            _ => None,
        }
    }

    /// The value of `key`, as text or as bytes, among a dictionary's `entries`.
    pub fn get(&self, entries: &[(Id, Id)], key: &str) -> Option<Id> {
        let mut latest = entries.iter().rev();
        let entry = latest.find(|(name, _)| self.bytes(*name) == Some(key.as_bytes()));
        entry.map(|&(_, value)| value)
    }

    /// The value's Python type, for messages.
    pub fn type_name(&self, id: Id) -> &'static str {
        match self.value(id) {
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::BigInt(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Set(_) => "set",
            Value::Dict(_) => "dict",
            Value::Global(_) => "type",
            Value::Object(_) | Value::Persistent(_) => "object",
        }
    }
}
