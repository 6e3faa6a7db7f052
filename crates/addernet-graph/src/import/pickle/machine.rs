//! The stack machine.

use std::collections::HashMap;

use super::globals::{self, Global};
use super::tensor;
use super::value::{Heap, Value};
use super::{Refusal, Result};

/// Most opcodes that a file's pickles may have together. A tensor takes about forty; each opcode
/// takes up to some hundred bytes of memory.
const MAX_OPCODES: usize = 4_000_000;
/// Most marks that may be open at once: Python's writer opens one per level of nesting.
const MAX_MARKS: usize = 10_000;

const TRUNCATED: &str =
    "its pickle ends in the middle of a value: the file is truncated or damaged";
const UNDERFLOW: &str = "its pickle takes more values from the stack than there are: it is damaged";

/// A reader of consecutive pickles in `bytes`.
pub(in crate::import) struct Pickle<'a> {
    pub(super) bytes: &'a [u8],
    position: usize,
    opcodes: usize,
    pub(super) copied: usize,
    pub(super) heap: Heap<'a>,
}

/// State of one pickle.
#[derive(Default)]
struct Stack<'a> {
    values: Vec<Value<'a>>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

impl<'a> Stack<'a> {
    fn push(&mut self, value: Value<'a>) {
        self.values.push(value);
    }

    /// Height below which nothing may be taken: the innermost mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        if self.values.len() <= self.floor() {
            return Err(UNDERFLOW.into());
        }
        self.values.pop().ok_or_else(|| UNDERFLOW.into())
    }

    fn pop_n<const N: usize>(&mut self) -> Result<[Value<'a>; N]> {
        let mut values = [Value::Scalar; N];
        for value in values.iter_mut().rev() {
            *value = self.pop()?;
        }
        Ok(values)
    }

    fn top(&self) -> Result<Value<'a>> {
        match self.values.last() {
            Some(&value) if self.values.len() > self.floor() => Ok(value),
            _ => Err(UNDERFLOW.into()),
        }
    }

    /// Everything above the innermost mark, which is closed.
    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or(UNDERFLOW)?;
        if mark > self.values.len() {
            return Err(UNDERFLOW.into());
        }
        Ok(self.values.split_off(mark))
    }

    fn memoize(&mut self, index: u32) -> Result<()> {
        let value = self.top()?;
        self.memo.insert(index, value);
        Ok(())
    }

    fn fetch(&mut self, index: u32) -> Result<()> {
        let value = *self.memo.get(&index).ok_or_else(|| {
            format!("its pickle refers to value {index}, which it never stored: it is damaged")
        })?;
        self.push(value);
        Ok(())
    }
}

impl<'a> Pickle<'a> {
    /// A reader that starts at the first of `bytes`.
    pub(in crate::import) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            opcodes: 0,
            copied: 0,
            heap: Heap::default(),
        }
    }

    /// Offset of the next byte to be read.
    pub(in crate::import) fn position(&self) -> usize {
        self.position
    }

    /// What the pickles read so far have built.
    pub(in crate::import) fn heap(&self) -> &Heap<'a> {
        &self.heap
    }

    /// Reads the next pickle and returns its value.
    ///
    /// # Errors
    /// If it names an object that is not allowed, is damaged, or is too long.
    pub(in crate::import) fn next(&mut self) -> Result<Value<'a>> {
        let mut stack = Stack::default();
        loop {
            let opcode = self.u8()?;
            self.opcodes += 1;
            if self.opcodes > MAX_OPCODES {
                return Err(format!(
                    "its pickle has more than {MAX_OPCODES} operations; keep only the state dict in it"
                )
                .into());
            }
            if opcode == b'.' {
                return stack.pop();
            }
            self.step(opcode, &mut stack)?;
        }
    }

    fn step(&mut self, opcode: u8, stack: &mut Stack<'a>) -> Result<()> {
        match opcode {
            // PROTO, FRAME: the opcodes themselves tell what is to be read.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT
            b'N' | 0x88 | 0x89 => stack.push(Value::Scalar),
            b'G' => {
                self.take(8)?;
                stack.push(Value::Scalar);
            }
            // BININT, BININT1, BININT2, LONG1, LONG4
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                stack.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.u8()?;
                stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let length = self.u8()?.into();
                stack.push(integer(self.take(length)?));
            }
            0x8b => {
                let length = self.length_u32()?;
                stack.push(integer(self.take(length)?));
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, and Python 2's BINSTRING, SHORT_BINSTRING
            b'X' | b'T' => {
                let length = self.length_u32()?;
                self.string(length, stack)?;
            }
            0x8c | b'U' => {
                let length = self.u8()?.into();
                self.string(length, stack)?;
            }
            0x8d => {
                let length = self.length_u64()?;
                self.string(length, stack)?;
            }
            // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
            b'B' => {
                let length = self.length_u32()?;
                self.bytes_value(length, stack)?;
            }
            b'C' => {
                let length = self.u8()?.into();
                self.bytes_value(length, stack)?;
            }
            0x8e | 0x96 => {
                let length = self.length_u64()?;
                self.bytes_value(length, stack)?;
            }
            // MARK
            b'(' => {
                if stack.marks.len() >= MAX_MARKS {
                    return Err("its pickle is nested too deeply".into());
                }
                stack.marks.push(stack.values.len());
            }
            // POP (of a value, or of a mark that is on top), POP_MARK, DUP
            b'0' if stack.marks.last() == Some(&stack.values.len()) => drop(stack.marks.pop()),
            b'0' => drop(stack.pop()?),
            b'1' => drop(stack.pop_to_mark()?),
            b'2' => {
                let value = stack.top()?;
                stack.push(value);
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => stack.memoize(self.u8()?.into())?,
            b'r' => stack.memoize(u32::from_le_bytes(self.array()?))?,
            0x94 => {
                let index = u32::try_from(stack.memo.len()).map_err(|_| UNDERFLOW)?;
                stack.memoize(index)?;
            }
            b'h' => stack.fetch(self.u8()?.into())?,
            b'j' => stack.fetch(u32::from_le_bytes(self.array()?))?,
            _ => self.step_composite(opcode, stack)?,
        }
        Ok(())
    }

    /// The opcodes that build containers and objects.
    fn step_composite(&mut self, opcode: u8, stack: &mut Stack<'a>) -> Result<()> {
        let built = match opcode {
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_SET, EMPTY_DICT
            b')' | b']' | 0x8f => self.heap.sequence(Vec::new()),
            b'}' => self.heap.dict(Vec::new()),
            // TUPLE, LIST, FROZENSET, TUPLE1, TUPLE2, TUPLE3
            b't' | b'l' | 0x91 => {
                let items = stack.pop_to_mark()?;
                self.heap.sequence(items)
            }
            0x85 => {
                let items = stack.pop_n::<1>()?;
                self.heap.sequence(items.to_vec())
            }
            0x86 => {
                let items = stack.pop_n::<2>()?;
                self.heap.sequence(items.to_vec())
            }
            0x87 => {
                let items = stack.pop_n::<3>()?;
                self.heap.sequence(items.to_vec())
            }
            // DICT
            b'd' => {
                let items = pairs(stack.pop_to_mark()?)?;
                self.heap.dict(items)
            }
            // APPEND, APPENDS, ADDITEMS
            b'a' => {
                let item = stack.pop()?;
                return self.append(stack.top()?, vec![item]);
            }
            b'e' | 0x90 => {
                let items = stack.pop_to_mark()?;
                return self.append(stack.top()?, items);
            }
            // SETITEM, SETITEMS
            b's' => {
                let [key, value] = stack.pop_n::<2>()?;
                return self.set_items(stack.top()?, vec![(key, value)]);
            }
            b'u' => {
                let items = pairs(stack.pop_to_mark()?)?;
                return self.set_items(stack.top()?, items);
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Value::Global(self.global(module, name)?)
            }
            0x93 => match stack.pop_n::<2>()? {
                [Value::Str(module), Value::Str(name)] => Value::Global(self.global(module, name)?),
                _ => return Err("its pickle names an object by something that is not text".into()),
            },
            // INST: an old way to name a class and call it
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
                return Err(unsupported(opcode));
            }
            // BINPERSID
            b'Q' => {
                let id = stack.pop()?;
                tensor::storage(&mut self.heap, id)?
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX
            b'R' | 0x81 => {
                let [callable, arguments] = stack.pop_n::<2>()?;
                self.call(callable, arguments, true)?
            }
            0x92 => {
                let [class, arguments, _] = stack.pop_n::<3>()?;
                self.call(class, arguments, true)?
            }
            // BUILD: an OrderedDict's attributes, an opaque object's state. Neither is needed.
            b'b' => {
                stack.pop()?;
                return match stack.top()? {
                    Value::Dict(_) | Value::Opaque(_) => Ok(()),
                    other => Err(unexpected("sets the state of", other)),
                };
            }
            other => return Err(unsupported(other)),
        };
        stack.push(built);
        Ok(())
    }

    fn append(&mut self, list: Value<'a>, items: Vec<Value<'a>>) -> Result<()> {
        match list {
            Value::Sequence(index) => self.heap.sequences[index].extend(items),
            // Subclasses of list are filled like lists.
            Value::Opaque(_) => {}
            other => return Err(unexpected("appends to", other)),
        }
        Ok(())
    }

    fn set_items(&mut self, dict: Value<'a>, items: Vec<(Value<'a>, Value<'a>)>) -> Result<()> {
        match dict {
            Value::Dict(index) => self.heap.dicts[index].extend(items),
            // Subclasses of dict are filled like dicts.
            Value::Opaque(_) => {}
            other => return Err(unexpected("sets items of", other)),
        }
        Ok(())
    }

    fn global(&self, module: &str, name: &str) -> Result<Global> {
        Global::resolve(module, name).ok_or_else(|| Refusal::Forbidden {
            global: crate::error::one_line(&format!("{module}.{name}")),
            advice: globals::advice(module, self.bytes),
        })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(TRUNCATED)?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| TRUNCATED.into())
    }

    fn u8(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn length_u32(&mut self) -> Result<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| TRUNCATED.into())
    }

    fn length_u64(&mut self) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| TRUNCATED.into())
    }

    fn string(&mut self, length: usize, stack: &mut Stack<'a>) -> Result<()> {
        let bytes = self.take(length)?;
        // Python 2's strings may be bytes (numpy scalars); as such nothing needs them.
        stack.push(std::str::from_utf8(bytes).map_or(Value::Scalar, Value::Str));
        Ok(())
    }

    fn bytes_value(&mut self, length: usize, stack: &mut Stack<'a>) -> Result<()> {
        self.take(length)?;
        stack.push(Value::Scalar);
        Ok(())
    }

    /// Text up to the end of the line, without it.
    fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(TRUNCATED)?;
        let line = &rest[..length];
        self.position += length + 1;
        std::str::from_utf8(line).map_err(|_| "its pickle names an object by broken text".into())
    }
}

/// A little-endian two's-complement integer of any length.
fn integer<'a>(bytes: &[u8]) -> Value<'a> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut extended = if negative { [0xff; 8] } else { [0; 8] };
    match extended.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(extended))
        }
        None => Value::Scalar,
    }
}

fn pairs<'a>(items: Vec<Value<'a>>) -> Result<Vec<(Value<'a>, Value<'a>)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("its pickle sets a dictionary's key without a value: it is damaged".into());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

pub(super) fn unexpected(what: &str, value: Value<'_>) -> Refusal {
    let kind = value.type_name();
    format!("its pickle {what} a value of type `{kind}`: it is damaged or of an unknown kind")
        .into()
}

fn unsupported(opcode: u8) -> Refusal {
    format!(
        "its pickle uses the operation {opcode:#04x}, which torch.save does not write: save it again \
         with the default pickle protocol"
    )
    .into()
}
