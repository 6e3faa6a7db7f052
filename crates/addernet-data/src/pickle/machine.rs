//! The opcodes.

use std::collections::HashMap;

use super::{Global, NodeId, PickleError, Value};

/// Opcodes per pickle; CIFAR-100's training file has about 200,000.
pub(super) const MAX_OPCODES: usize = 1 << 19;

/// The stack machine.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Start of the current opcode.
    opcode_at: usize,
    nodes: Vec<(Value<'a>, usize)>,
    stack: Vec<NodeId>,
    /// Heights of the stack at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
}

type Step<T> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            opcode_at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// The values made so far, each with the place of its opcode.
    pub(super) fn into_nodes(self) -> Vec<(Value<'a>, usize)> {
        self.nodes
    }

    /// Runs to the STOP opcode; gives the value that the pickle stands for.
    pub(super) fn run(&mut self) -> Step<NodeId> {
        for _ in 0..MAX_OPCODES {
            self.opcode_at = self.at;
            let opcode = self.array::<1>()?[0];
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
        self.fail(format!(
            "more than {MAX_OPCODES} opcodes, no CIFAR file has as many"
        ))
    }

    fn step(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            // PROTO, FRAME: framing is only a hint for buffered reading.
            0x80 => {
                let [version] = self.array()?;
                if !(2..=5).contains(&version) {
                    return self.fail(format!(
                        "pickle protocol {version}, only 2 to 5 can be read"
                    ));
                }
            }
            0x95 => {
                self.array::<8>()?;
            }

            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),

            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => self.long1()?,

            // BINSTRING, SHORT_BINSTRING, BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
            b'T' | b'B' => {
                let len = u32::from_le_bytes(self.array()?);
                self.push_bytes(len.into())?;
            }
            b'U' | b'C' => {
                let [len] = self.array()?;
                self.push_bytes(len.into())?;
            }
            0x8e | 0x96 => {
                let len = u64::from_le_bytes(self.array()?);
                self.push_bytes(len)?;
            }

            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => {
                let len = u32::from_le_bytes(self.array()?);
                self.push_text(len.into())?;
            }
            0x8c => {
                let [len] = self.array()?;
                self.push_text(len.into())?;
            }
            0x8d => {
                let len = u64::from_le_bytes(self.array()?);
                self.push_text(len)?;
            }

            // EMPTY_LIST, EMPTY_TUPLE, EMPTY_DICT, MARK, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'(' => self.marks.push(self.stack.len()),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push(Value::Tuple(items));
            }

            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }

            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let [key] = self.array()?;
                self.memoize(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.memoize(key)?;
            }
            0x94 => self.memoize(self.memo.len() as u32)?,
            b'h' => {
                let [key] = self.array()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }

            // GLOBAL, STACK_GLOBAL, REDUCE, BUILD
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let string = |id: NodeId| match self.nodes[id as usize].0 {
                    Value::Text(text) => Some(text.as_bytes()),
                    _ => None,
                };
                let (Some(module), Some(name)) = (string(names[0]), string(names[1])) else {
                    return self.fail("a global whose name is not a string");
                };
                self.global(module, name)?;
            }
            b'R' => self.reduce()?,
            b'b' => self.build()?,

            _ => {
                return self.fail(format!(
                    "opcode 0x{opcode:02x} does not occur in CIFAR files"
                ));
            }
        }
        Ok(())
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Step<T> {
        Err(PickleError {
            offset: self.opcode_at,
            problem: problem.into(),
        })
    }

    /// The next `len` bytes; the length is compared with what is left before anything else happens.
    fn take(&mut self, len: u64) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if len > rest.len() as u64 {
            let problem = format!("{len} bytes are announced, but only {} follow", rest.len());
            return self.fail(problem);
        }
        let len = len as usize;
        self.at += len;
        Ok(&rest[..len])
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn line(&mut self) -> Step<&'a [u8]> {
        /// Longer than any global that is accepted.
        const MAX_LINE: usize = 256;
        let rest = &self.bytes[self.at..];
        match rest.iter().take(MAX_LINE).position(|&byte| byte == b'\n') {
            Some(end) => {
                self.at += end + 1;
                Ok(&rest[..end])
            }
            None => self.fail("the name of a global does not end"),
        }
    }

    fn push(&mut self, value: Value<'a>) {
        // MAX_OPCODES keeps the count far below u32::MAX.
        self.stack.push(self.nodes.len() as NodeId);
        self.nodes.push((value, self.opcode_at));
    }

    fn push_bytes(&mut self, len: u64) -> Step<()> {
        let bytes = self.take(len)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn push_text(&mut self, len: u64) -> Step<()> {
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                self.push(Value::Text(text));
                Ok(())
            }
            Err(_) => self.fail("a string is not UTF-8"),
        }
    }

    /// A little-endian two's complement integer of up to 8 bytes.
    fn long1(&mut self) -> Step<()> {
        let [len] = self.array()?;
        if len > 8 {
            return self.fail(format!("an integer of {len} bytes"));
        }
        let bytes = self.take(len.into())?;
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    /// Height below which the stack belongs to an enclosing MARK.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<NodeId> {
        match self.stack.pop() {
            Some(id) if self.stack.len() >= self.floor() => Ok(id),
            _ => self.fail("a value is taken from an empty stack"),
        }
    }

    fn pop_many(&mut self, count: usize) -> Step<Vec<NodeId>> {
        if self.stack.len() < self.floor() + count {
            return self.fail("a value is taken from an empty stack");
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_to_mark(&mut self) -> Step<Vec<NodeId>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => self.fail("the end of a group that never began"),
        }
    }

    /// The top of the stack, without removing it.
    fn top(&mut self) -> Step<NodeId> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn append(&mut self, items: Vec<NodeId>) -> Step<()> {
        let list = self.top()?;
        match &mut self.nodes[list as usize].0 {
            Value::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => self.fail("items are appended to what is no list"),
        }
    }

    fn set_items(&mut self, items: &[NodeId]) -> Step<()> {
        let dict = self.top()?;
        match &mut self.nodes[dict as usize].0 {
            Value::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            Value::Dict(_) => self.fail("a key without a value"),
            _ => self.fail("entries are set in what is no dictionary"),
        }
    }

    fn memoize(&mut self, key: u32) -> Step<()> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
        match self.memo.get(&key) {
            Some(&id) => {
                self.stack.push(id);
                Ok(())
            }
            None => self.fail(format!("value {key} is recalled but was never stored")),
        }
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Step<()> {
        match Global::find(module, name) {
            Some(global) => {
                self.push(Value::Global(global));
                Ok(())
            }
            None => self.fail(format!(
                "it refers to `{}.{}`, which no CIFAR file does; nothing was executed",
                module.escape_ascii(),
                name.escape_ascii()
            )),
        }
    }

    fn reduce(&mut self) -> Step<()> {
        let pair = self.pop_many(2)?;
        let (callable, arguments) = (pair[0], pair[1]);
        let Value::Global(callable) = self.nodes[callable as usize].0 else {
            return self.fail("a call of what is no function");
        };
        if !matches!(self.nodes[arguments as usize].0, Value::Tuple(_)) {
            return self.fail("a call whose arguments are no tuple");
        }
        self.push(Value::Object {
            callable,
            arguments,
            state: None,
        });
        Ok(())
    }

    fn build(&mut self) -> Step<()> {
        let new_state = self.pop()?;
        let object = self.top()?;
        match &mut self.nodes[object as usize].0 {
            Value::Object {
                state: state @ None,
                ..
            } => {
                *state = Some(new_state);
                Ok(())
            }
            _ => self.fail("a state is set in what cannot have one"),
        }
    }
}
