//! A machine for the pickles that `torch.save` writes (protocols 2–5).
//!
//! It understands dictionaries, sequences, numbers, texts, and the handful of names that tensors need. Objects of any other
//! class become [`Instance`]s: a name with arguments and attributes, read as data. The machine has no way to look up or call
//! anything. A pickle that refers to what runs programs or code under Python is an error, as a service to its reader. Work and
//! memory are bounded by the caps below.

mod calls;
mod danger;
mod machine;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use machine::unpickle;
pub(crate) use value::{Element, Instance, Object, StorageRef, TensorRef, Unpickled, Value};

/// The longest pickle; that of a ResNet-50 has 60 KB. `NumPy` arrays next to the weights are within it, and passed over.
pub(crate) const MAX_PICKLE_BYTES: usize = 1 << 30;

/// The most opcodes in one pickle.
const MAX_OPCODES: usize = 2 << 20;

/// The longest name of a Python object or a storage, in bytes.
const MAX_NAME: usize = 256;

/// The most different Python names in one pickle.
const MAX_NAMES: usize = 4096;

/// The most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Why a pickle was refused.
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
    /// It refers to this Python name.
    Global(String),
    /// Anything else.
    Malformed(String),
}
