//! The operations.

use crate::error::{PickleError, Problem};
use crate::heap::{Heap, Id, Object, Value};
use crate::stack::Stack;

type Result<T> = std::result::Result<T, Problem>;

/// A reader of consecutive pickles. Its values live in one [`Heap`].
#[derive(Debug)]
pub struct Reader<'a, G> {
    bytes: &'a [u8],
    position: usize,
    /// Start of the current operation.
    operation: usize,
    operations: usize,
    max_operations: usize,
    find: fn(&str, &str) -> Option<G>,
    heap: Heap<'a, G>,
}

impl<'a, G: Copy> Reader<'a, G> {
    /// A reader that starts at the first of `bytes`, and accepts `max_operations` in all pickles
    /// together. `find` gives the meaning of a module's function or class, or `None` if a pickle may
    /// not refer to it.
    pub fn new(
        bytes: &'a [u8],
        max_operations: usize,
        find: fn(module: &str, name: &str) -> Option<G>,
    ) -> Self {
        Self {
            bytes,
            position: 0,
            operation: 0,
            operations: 0,
            max_operations,
            find,
            heap: Heap::new(),
        }
    }

    /// Offset of the next byte to be read: what follows a pickle is not touched.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What the pickles read so far have built.
    pub fn heap(&self) -> &Heap<'a, G> {
        &self.heap
    }

    /// Reads the next pickle and returns its value.
    ///
    /// # Errors
    /// If it refers to a function or class that is not accepted, is damaged or too long, or if its
    /// protocol is not 2 to 5.
    pub fn read(&mut self) -> std::result::Result<Id, PickleError> {
        let mut stack = Stack::default();
        loop {
            self.operation = self.position;
            match self.step(&mut stack) {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(root),
                Err(problem) => {
                    return Err(PickleError {
                        offset: self.operation,
                        problem,
                    });
                }
            }
        }
    }

    /// Runs one operation; the last one gives the pickle's value.
    fn step(&mut self, stack: &mut Stack) -> Result<Option<Id>> {
        let [opcode] = self.array()?;
        if self.operations == self.max_operations {
            return Err(Problem::TooLong(self.max_operations));
        }
        self.operations += 1;
        let value = match opcode {
            // STOP
            b'.' => return stack.pop().map(Some),
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool(opcode == 0x88),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            // BININT, BININT1, BININT2, LONG1, LONG4
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            0x8a => integer(self.sized::<1>()?),
            0x8b => integer(self.sized::<4>()?),
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8; SHORT_BINSTRING, BINSTRING of Python 2
            0x8c | b'U' => text(self.sized::<1>()?),
            b'X' | b'T' => text(self.sized::<4>()?),
            0x8d => text(self.sized::<8>()?),
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => Value::Bytes(self.sized::<1>()?),
            b'B' => Value::Bytes(self.sized::<4>()?),
            0x8e | 0x96 => Value::Bytes(self.sized::<8>()?),
            // EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b')' => Value::Tuple(Vec::new()),
            b't' => Value::Tuple(stack.pop_to_mark()?),
            0x85..=0x87 => Value::Tuple(stack.pop_n(usize::from(opcode - 0x84))?),
            // EMPTY_LIST, LIST, EMPTY_SET, FROZENSET, EMPTY_DICT, DICT
            b']' => Value::List(Vec::new()),
            b'l' => Value::List(stack.pop_to_mark()?),
            0x8f => Value::Set(Vec::new()),
            0x91 => Value::Set(stack.pop_to_mark()?),
            b'}' => Value::Dict(Vec::new()),
            b'd' => Value::Dict(pairs(&stack.pop_to_mark()?)?),
            // GLOBAL, STACK_GLOBAL, INST: the last calls a class, in a way that is no longer written
            b'c' => self.named_global()?,
            0x93 => {
                let names = stack.pop_n(2)?;
                match (self.heap.text(names[0]), self.heap.text(names[1])) {
                    (Some(module), Some(name)) => self.global(module, name)?,
                    _ => return Err(Problem::damaged("names an object by what is not text")),
                }
            }
            b'i' => {
                self.named_global()?;
                return Err(Problem::Unsupported(opcode));
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX
            b'R' | 0x81 => self.call(&stack.pop_n(2)?)?,
            0x92 => self.call(&stack.pop_n(3)?)?,
            // BINPERSID
            b'Q' => Value::Persistent(stack.pop()?),
            _ => return self.change(opcode, stack).map(|()| None),
        };
        let id = self.add(value)?;
        stack.push(id);
        Ok(None)
    }

    /// The operations that make no value.
    fn change(&mut self, opcode: u8, stack: &mut Stack) -> Result<()> {
        match opcode {
            // PROTO, FRAME: framing is a hint for buffered reading.
            0x80 => match self.array()? {
                [2..=5] => Ok(()),
                [version] => Err(Problem::Protocol(version)),
            },
            0x95 => self.take(8).map(drop),
            // MARK, POP, POP_MARK, DUP
            b'(' => stack.mark(),
            b'0' => stack.drop_top(),
            b'1' => stack.pop_to_mark().map(drop),
            b'2' => stack.top().map(|value| stack.push(value)),
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => stack.memoize(u8::from_le_bytes(self.array()?).into()),
            b'r' => stack.memoize(u32::from_le_bytes(self.array()?)),
            0x94 => stack.memoize_next(),
            b'h' => stack.fetch(u8::from_le_bytes(self.array()?).into()),
            b'j' => stack.fetch(u32::from_le_bytes(self.array()?)),
            // APPEND, APPENDS, ADDITEMS, SETITEM, SETITEMS, BUILD
            b'a' => {
                let items = stack.pop_n(1)?;
                self.append(stack.top()?, items)
            }
            b'e' | 0x90 => {
                let items = stack.pop_to_mark()?;
                self.append(stack.top()?, items)
            }
            b's' => {
                let entry = stack.pop_n(2)?;
                self.set_items(stack.top()?, &entry)
            }
            b'u' => {
                let entries = stack.pop_to_mark()?;
                self.set_items(stack.top()?, &entries)
            }
            b'b' => {
                let state = stack.pop()?;
                self.build(stack.top()?, state)
            }
            _ => Err(Problem::Unsupported(opcode)),
        }
    }

    fn add(&mut self, value: Value<'a, G>) -> Result<Id> {
        let id = self.heap.add(value, self.operation);
        id.ok_or(Problem::TooLong(self.max_operations))
    }

    fn append(&mut self, target: Id, new: Vec<Id>) -> Result<()> {
        let items = self.contents(target, |object| &mut object.items, Value::List(Vec::new()))?;
        match self.heap.value_mut(items) {
            Value::List(items) | Value::Set(items) => items.extend(new),
            _ => return Err(self.unexpected("appends to", target)),
        }
        Ok(())
    }

    fn set_items(&mut self, target: Id, new: &[Id]) -> Result<()> {
        let empty = Value::Dict(Vec::new());
        let entries = self.contents(target, |object| &mut object.entries, empty)?;
        match self.heap.value_mut(entries) {
            Value::Dict(entries) => entries.extend(pairs(new)?),
            _ => return Err(self.unexpected("sets items of", target)),
        }
        Ok(())
    }

    /// The container that is filled in the name of `target`: itself, or an object's own one (objects
    /// may be of subclasses of list, set and dict).
    fn contents(
        &mut self,
        target: Id,
        slot: fn(&mut Object) -> &mut Option<Id>,
        empty: Value<'a, G>,
    ) -> Result<Id> {
        match self.heap.value_mut(target) {
            Value::Object(object) => {
                if let Some(id) = *slot(object) {
                    return Ok(id);
                }
            }
            _ => return Ok(target),
        }
        let id = self.add(empty)?;
        if let Value::Object(object) = self.heap.value_mut(target) {
            *slot(object) = Some(id);
        }
        Ok(id)
    }

    fn build(&mut self, target: Id, new: Id) -> Result<()> {
        match self.heap.value_mut(target) {
            Value::Object(Object {
                state: state @ None,
                ..
            }) => {
                *state = Some(new);
                Ok(())
            }
            Value::Object(_) => Err(Problem::damaged("sets the state of an object again")),
            _ => Err(self.unexpected("sets the state of", target)),
        }
    }

    /// The call that the operands `function, arguments` (and keyword arguments) describe.
    fn call(&self, operands: &[Id]) -> Result<Value<'a, G>> {
        let (callable, arguments) = (operands[0], operands[1]);
        if !matches!(self.heap.value(arguments), Value::Tuple(_)) {
            return Err(self.unexpected("calls a function with", arguments));
        }
        if !matches!(
            self.heap.value(callable),
            Value::Global(_) | Value::Object(_)
        ) {
            return Err(self.unexpected("calls", callable));
        }
        Ok(Value::Object(Object {
            callable,
            arguments,
            state: None,
            items: None,
            entries: None,
        }))
    }

    fn named_global(&mut self) -> Result<Value<'a, G>> {
        let (module, name) = (self.line()?, self.line()?);
        self.global(module, name)
    }

    fn global(&self, module: &str, name: &str) -> Result<Value<'a, G>> {
        let found = (self.find)(module, name).map(Value::Global);
        found.ok_or_else(|| Problem::forbidden(module, name))
    }

    fn unexpected(&self, what: &str, value: Id) -> Problem {
        let kind = self.heap.type_name(value);
        Problem::damaged(format!("{what} a value of type `{kind}`"))
    }

    /// The next `length` bytes.
    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let end = usize::try_from(length).ok();
        match end.and_then(|end| rest.get(..end)) {
            Some(taken) => {
                self.position += taken.len();
                Ok(taken)
            }
            None => Err(Problem::Truncated {
                announced: length,
                left: rest.len(),
            }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    /// As many bytes as the next `N` say, at most 8.
    fn sized<const N: usize>(&mut self) -> Result<&'a [u8]> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(self.take(N as u64)?);
        self.take(u64::from_le_bytes(length))
    }

    /// Text up to the end of the line, without it.
    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.position..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(Problem::Truncated {
                announced: rest.len() as u64 + 1,
                left: rest.len(),
            });
        };
        self.position += length + 1;
        std::str::from_utf8(&rest[..length])
            .map_err(|_| Problem::damaged("names an object by broken text"))
    }
}

fn text<'a, G>(bytes: &'a [u8]) -> Value<'a, G> {
    std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text)
}

/// A little-endian two's complement integer of any length.
fn integer<'a, G>(bytes: &'a [u8]) -> Value<'a, G> {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut extended = [if negative { 0xff } else { 0 }; 8];
    match extended.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(extended))
        }
        None => Value::BigInt(bytes),
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Problem::damaged("sets a dictionary's key without a value"));
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

#[cfg(test)]
mod tests;
