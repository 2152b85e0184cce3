//! Opcodes of the pickle machine.

use std::collections::HashMap;

use super::value::{Instance, NameId, Object, Unpickled, Value};
use super::{MAX_NAME, MAX_OPCODES, MAX_PICKLE_BYTES, PickleError, Reason};

/// Reads the pickle at the start of `bytes`. Bytes after its STOP are ignored.
pub(crate) fn unpickle(bytes: &[u8]) -> Result<Unpickled, PickleError> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(MAX_PICKLE_BYTES)],
        ..Machine::default()
    };
    for _ in 0..MAX_OPCODES {
        let offset = machine.position;
        let step = machine.step().map_err(|reason| PickleError { offset, reason })?;
        if let Some(root) = step {
            return Ok(Unpickled {
                root,
                consumed: machine.position,
                arena: machine.arena,
                names: machine.names,
            });
        }
    }
    Err(PickleError {
        offset: machine.position,
        reason: Reason::Malformed(format!("more than {MAX_OPCODES} opcodes")),
    })
}

/// The state between two opcodes.
#[derive(Default)]
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Value>,
    /// Stack heights at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    arena: Vec<Object>,
    pub(super) names: Vec<String>,
    pub(super) name_ids: HashMap<String, NameId>,
    /// Number of entries copied from lists to dictionaries so far.
    pub(super) copied: usize,
}

/// The outcome of a part of an opcode.
pub(super) type Step<T> = Result<T, Reason>;

/// Returns the error for an invalid pickle.
pub(super) fn malformed<T>(reason: impl Into<String>) -> Step<T> {
    Err(Reason::Malformed(reason.into()))
}

impl<'a> Machine<'a> {
    /// Executes one opcode. Returns the root value if it was STOP.
    fn step(&mut self) -> Step<Option<Value>> {
        let opcode = self.take(1)?[0];
        match opcode {
            0x80 => match self.take(1)?[0] {
                2..=5 => {}
                protocol => return malformed(format!("protocol: expected 2 to 5, got {protocol}")),
            },
            0x95 => {
                // FRAME contains a length, which only helps streaming readers.
                self.take(8)?;
            }
            b'.' => return self.pop().map(Some),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' | b'M' | b'J' | 0x8a | 0x8b => match self.integer(opcode)? {
                Some(value) => self.stack.push(Value::Int(value)),
                None => self.push(Object::Opaque),
            },
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.stack.push(Value::Float(value));
            }
            b'X' | 0x8c | 0x8d | b'U' | b'T' => {
                let length = match opcode {
                    0x8c | b'U' => self.unsigned(1)?,
                    0x8d => self.unsigned(8)?,
                    _ => self.unsigned(4)?,
                };
                // Python 2 writes arrays as texts with arbitrary bytes.
                let text = std::str::from_utf8(self.take(length)?).ok().map(str::to_owned);
                self.push(text.map_or(Object::Opaque, Object::Text));
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let length = self.unsigned(match opcode {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                let start = self.position;
                self.take(length)?;
                self.push(Object::Bytes(start..self.position));
            }
            // EMPTY_SET, ADDITEMS, FROZENSET.
            0x8f => self.push(Object::Opaque),
            0x90 => {
                self.pop_mark()?;
                match self.top_object()? {
                    Object::Opaque | Object::Instance(_) => {}
                    _ => return malformed("adds to what is not a set"),
                }
            }
            0x91 => {
                self.pop_mark()?;
                self.push(Object::Opaque);
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            b')' => self.push(Object::Tuple(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            b'}' => self.push(Object::Dict(Vec::new())),
            b't' => {
                let items = self.pop_mark()?;
                self.push(Object::Tuple(items));
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Object::List(items));
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push(Object::Tuple(items));
            }
            b'a' | b'e' => {
                let items = if opcode == b'a' {
                    self.pop_many(1)?
                } else {
                    self.pop_mark()?
                };
                match self.top_object()? {
                    Object::List(list) => list.extend(items),
                    // A subclass of list, whose items have no names.
                    Object::Instance(_) => {}
                    _ => return malformed("appends to what is not a list"),
                }
            }
            b's' | b'u' => {
                let items = if opcode == b's' {
                    self.pop_many(2)?
                } else {
                    self.pop_mark()?
                };
                if items.len() % 2 != 0 {
                    return malformed("a key without a value");
                }
                match self.top_object()? {
                    Object::Dict(dict) | Object::Instance(Instance { items: dict, .. }) => {
                        dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                    }
                    _ => return malformed("sets items of what is not a dictionary"),
                }
            }
            b'q' | b'r' | 0x94 => {
                let slot = match opcode {
                    b'q' => self.unsigned(1)? as u64,
                    b'r' => self.unsigned(4)? as u64,
                    _ => self.memo.len() as u64,
                };
                let top = self.top()?;
                self.memo.insert(slot, top);
            }
            b'h' | b'j' => {
                let slot = self.unsigned(if opcode == b'h' { 1 } else { 4 })? as u64;
                match self.memo.get(&slot) {
                    Some(&value) => self.stack.push(value),
                    None => return malformed(format!("memo {slot} is empty")),
                }
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let (module, name) = (self.short_text(names[0])?, self.short_text(names[1])?);
                self.global(&module, &name)?;
            }
            b'R' => self.reduce()?,
            0x81 => {
                let operands = self.pop_many(2)?;
                self.instance(operands[0], operands[1])?;
            }
            0x92 => {
                let operands = self.pop_many(3)?;
                self.instance(operands[0], operands[1])?;
            }
            b'b' => {
                let attributes = self.pop()?;
                match self.top_object()? {
                    // torch attaches `_metadata` to the dictionary. Nothing here needs it.
                    Object::Dict(_) | Object::List(_) | Object::Tensor(_) | Object::Opaque => {}
                    Object::Instance(instance) => instance.state = Some(attributes),
                    _ => return malformed("sets attributes of what has none"),
                }
            }
            b'Q' => self.persistent()?,
            _ => return malformed(format!("opcode 0x{opcode:02x}, which no checkpoint uses")),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let Some(taken) = self.bytes[self.position..].get(..count) else {
            return malformed(format!("ends {count} bytes short"));
        };
        self.position += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Returns a little-endian length of 1, 4 or 8 bytes.
    fn unsigned(&mut self, width: usize) -> Step<usize> {
        let value = self
            .take(width)?
            .iter()
            .rev()
            .fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        usize::try_from(value).or_else(|_| malformed(format!("a length of {value}")))
    }

    /// Returns an integer; `None` if it has more than 16 bytes.
    fn integer(&mut self, opcode: u8) -> Step<Option<i128>> {
        Ok(Some(match opcode {
            b'K' => self.take(1)?[0].into(),
            b'M' => u16::from_le_bytes(self.array()?).into(),
            b'J' => i32::from_le_bytes(self.array()?).into(),
            _ => {
                let length = self.unsigned(if opcode == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(length)?;
                if length > 16 {
                    return Ok(None);
                }
                let sign = bytes.last().map_or(0, |&byte| if byte < 128 { 0 } else { 0xff });
                let mut whole = [sign; 16];
                whole[..length].copy_from_slice(bytes);
                i128::from_le_bytes(whole)
            }
        }))
    }

    fn text(&mut self, length: usize) -> Step<&'a str> {
        std::str::from_utf8(self.take(length)?).or_else(|_| malformed("text that is not UTF-8"))
    }

    fn line(&mut self) -> Step<&'a str> {
        let Some(length) = self.bytes[self.position..].iter().position(|&byte| byte == b'\n') else {
            return malformed("a line without an end");
        };
        let line = self.text(length)?;
        self.position += 1;
        Ok(line)
    }

    pub(super) fn push(&mut self, object: Object) {
        self.stack.push(Value::Object(self.arena.len()));
        self.arena.push(object);
    }

    pub(super) fn push_value(&mut self, value: Value) {
        self.stack.push(value);
    }

    /// Returns the lowest stack height that pops may reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Step<Value> {
        if self.stack.len() <= self.floor() {
            return malformed("the stack is empty");
        }
        self.stack.pop().map_or_else(|| malformed("the stack is empty"), Ok)
    }

    pub(super) fn pop_many(&mut self, count: usize) -> Step<Vec<Value>> {
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= self.floor() => Ok(self.stack.split_off(height)),
            _ => malformed("the stack is empty"),
        }
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => malformed("no mark is open"),
        }
    }

    fn top(&self) -> Step<Value> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => malformed("the stack is empty"),
        }
    }

    fn top_object(&mut self) -> Step<&mut Object> {
        match self.top()? {
            Value::Object(index) => Ok(&mut self.arena[index]),
            _ => malformed("expected an object"),
        }
    }

    pub(super) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(index) => self.arena.get(index),
            _ => None,
        }
    }

    /// Returns a copy of a text that is used as a name.
    pub(super) fn short_text(&self, value: Value) -> Step<String> {
        match self.object(value) {
            Some(Object::Text(text)) if text.len() <= MAX_NAME => Ok(text.clone()),
            Some(Object::Text(text)) => malformed(format!("a name: at most {MAX_NAME} bytes, got {}", text.len())),
            _ => malformed("a name that is not text"),
        }
    }
}
