//! A state dict: tensors by name, as f32.

use std::collections::BTreeMap;

use super::ImportError;
use crate::Tensor;

/// The tensors of a checkpoint by their names, ordered.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct StateDict {
    /// The tensors.
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// What one checkpoint may unfold to. Every honest tensor has at least one byte an element in the file, so the elements of all
/// tensors together may not outnumber the file's bytes; views that repeat a small storage could otherwise grow without end.
pub(super) struct Budget<'a> {
    origin: &'a str,
    limit: usize,
    used: usize,
}

impl<'a> Budget<'a> {
    /// The budget of a file of `bytes` bytes.
    pub(super) fn new(origin: &'a str, bytes: usize) -> Self {
        Self {
            origin,
            limit: bytes,
            used: 0,
        }
    }

    /// Accounts for a tensor of `shape` and returns its number of elements.
    pub(super) fn elements(&mut self, shape: &[usize]) -> Result<usize, ImportError> {
        let count = shape.iter().try_fold(1_usize, |count, &side| count.checked_mul(side));
        self.used = self.used.saturating_add(count.unwrap_or(usize::MAX));
        match count {
            Some(count) if self.used <= self.limit => Ok(count),
            _ => Err(ImportError::TooLarge {
                origin: self.origin.to_owned(),
                what: "elements of all tensors",
                limit: self.limit as u64,
                got: self.used as u64,
            }),
        }
    }
}

/// `name` without the prefix of `torch.nn.DataParallel`.
pub(super) fn plain_name(name: &str) -> &str {
    name.strip_prefix("module.").unwrap_or(name)
}
