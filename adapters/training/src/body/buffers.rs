//! Buffers that outlive a picture, so that learning does not ask the system for memory at every step.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Buffers not in use, by length.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<HashMap<usize, Vec<Vec<f32>>>>);

impl Buffers {
    /// `length` values with unspecified content.
    pub(super) fn take(&self, length: usize) -> Vec<f32> {
        let found = {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            free.get_mut(&length).and_then(Vec::pop)
        };
        found.unwrap_or_else(|| vec![0.0; length])
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, buffer: Vec<f32>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.entry(buffer.len()).or_default().push(buffer);
    }

    /// Bytes of the buffers that are not in use.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.iter()
            .map(|(length, buffers)| size_of::<f32>() * length * buffers.len())
            .sum()
    }
}
