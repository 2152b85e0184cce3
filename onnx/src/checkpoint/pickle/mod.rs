//! Interpreter for the pickles that `torch.save` writes (protocols 2–5).
//!
//! It supports dictionaries, sequences, numbers, strings, and the few Python classes and functions from which tensors
//! are built. Any other class becomes an [`Instance`]: a name with arguments and attributes, kept as data. The
//! interpreter cannot look up or call Python code, so no pickle can run anything. A pickle that names a function known
//! to run code or to access files or the network is refused nevertheless, to warn the user: Python would run it. The
//! limits below bound work and memory.

mod calls;
mod danger;
mod machine;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use machine::unpickle;
pub(crate) use value::{Element, Instance, Object, StorageRef, TensorRef, Unpickled, Value};

/// Maximum bytes of a pickle; that of a ResNet-50 has 60 KB. It includes `NumPy` arrays next to the weights, which are
/// skipped.
pub(crate) const MAX_PICKLE_BYTES: usize = 1 << 30;

/// Maximum number of opcodes in a pickle.
const MAX_OPCODES: usize = 2 << 20;

/// Maximum bytes of the name of a Python object or a storage.
const MAX_NAME: usize = 256;

/// Maximum number of different Python names in a pickle.
const MAX_NAMES: usize = 4096;

/// Maximum number of dimensions of a tensor.
const MAX_RANK: usize = 8;

/// The reason why a pickle was refused, and its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PickleError {
    /// Position of the opcode.
    pub(crate) offset: usize,
    /// The defect.
    pub(crate) reason: Reason,
}

/// Defect of an opcode.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The pickle refers to this Python name.
    Global(String),
    /// Anything else.
    Malformed(String),
}
