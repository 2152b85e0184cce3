//! Buffers that outlive a picture, so that learning does not ask the system for memory at every step.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Buffers not in use, by length.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    free: HashMap<usize, Vec<Vec<f32>>>,
    /// Values of all buffers, in use or not.
    values: usize,
    /// The most that these ever were.
    most: usize,
}

impl Buffers {
    /// `length` values with unspecified content.
    pub(super) fn take(&self, length: usize) -> Vec<f32> {
        let found = {
            let mut pool = self.pool();
            let found = pool.free.get_mut(&length).and_then(Vec::pop);
            if found.is_none() {
                pool.values += length;
                pool.most = pool.most.max(pool.values);
            }
            found
        };
        found.unwrap_or_else(|| vec![0.0; length])
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, buffer: Vec<f32>) {
        self.pool().free.entry(buffer.len()).or_default().push(buffer);
    }

    /// Gives what is not in use back to the system: what comes next takes other lengths.
    pub(super) fn free(&self) {
        let mut pool = self.pool();
        let free = std::mem::take(&mut pool.free);
        let values: usize = free.iter().map(|(length, buffers)| length * buffers.len()).sum();
        pool.values -= values;
    }

    /// Bytes of all buffers when they were the most.
    #[cfg(test)]
    pub(super) fn most(&self) -> usize {
        size_of::<f32>() * self.pool().most
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
