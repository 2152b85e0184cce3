//! Buffers that outlive a picture, so that learning does not ask the system for memory at every step.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Buffers not in use, by length.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    free: HashMap<usize, Vec<Vec<f32>>>,
    /// Values of all buffers, in use or not.
    total: usize,
    /// The most that these ever were.
    most: usize,
}

impl Buffers {
    /// `length` values with unspecified content.
    pub(super) fn take(&self, length: usize) -> Vec<f32> {
        let found = {
            let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let found = pool.free.get_mut(&length).and_then(Vec::pop);
            if found.is_none() {
                pool.total += length;
                pool.most = pool.most.max(pool.total);
            }
            found
        };
        found.unwrap_or_else(|| vec![0.0; length])
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, buffer: Vec<f32>) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pool.free.entry(buffer.len()).or_default().push(buffer);
    }

    /// Gives what is not in use back to the system: the next segment's values have other lengths.
    pub(super) fn trim(&self) {
        let free = {
            let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let free = std::mem::take(&mut pool.free);
            pool.total -= free
                .iter()
                .map(|(length, buffers)| length * buffers.len())
                .sum::<usize>();
            free
        };
        drop(free);
    }

    /// The most bytes that there ever were.
    #[cfg(test)]
    pub(super) fn most(&self) -> usize {
        size_of::<f32>() * self.0.lock().unwrap_or_else(PoisonError::into_inner).most
    }
}
