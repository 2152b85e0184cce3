//! A machine for the pickles that `torch.save` writes for state dicts (protocols 2–5).
//!
//! It understands dictionaries, sequences, numbers, texts, and the handful of names a state dict needs. It has no way to call
//! anything: a pickle that refers to another name is an error. Work and memory are bounded by the caps below.

mod calls;
mod machine;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use machine::unpickle;
pub(crate) use value::{Element, Object, StorageRef, TensorRef, Unpickled, Value};

/// The longest pickle; that of a ResNet-50 has 60 KB.
pub(crate) const MAX_PICKLE_BYTES: usize = 16 << 20;

/// The most opcodes in one pickle.
const MAX_OPCODES: usize = 2 << 20;

/// The longest name of a Python object or a storage, in bytes.
const MAX_NAME: usize = 256;

/// The most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Why a pickle was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PickleError {
    /// Position of the opcode.
    pub(crate) offset: usize,
    /// What is wrong with it.
    pub(crate) reason: Reason,
}

/// What is wrong with an opcode.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It refers to this Python name.
    Global(String),
    /// Anything else.
    Malformed(String),
}
