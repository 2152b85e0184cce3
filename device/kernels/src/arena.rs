//! Working memory that outlives a run, so that a frame allocates nothing large.

use std::sync::{Mutex, PoisonError};

/// Buffers not in use. Every engine has one; a thread takes a buffer for as long as it needs it.
#[derive(Debug, Default)]
pub struct Arena(Mutex<Vec<Vec<f32>>>);

impl Arena {
    /// Lends `length` values with unspecified content to `work`.
    pub fn lend<R>(&self, length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
        let mut buffer = self.acquire(length);
        let result = work(&mut buffer[..length]);
        self.release(buffer);
        result
    }

    /// Takes a buffer of at least `length` values with unspecified content.
    pub fn acquire(&self, length: usize) -> Vec<f32> {
        let mut buffer = {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // The smallest that is large enough, else the largest: few buffers, each grown once.
            let best = (0..free.len()).min_by_key(|&at| {
                let capacity = free[at].len();
                if capacity >= length {
                    (false, capacity)
                } else {
                    (true, usize::MAX - capacity)
                }
            });
            best.map_or_else(Vec::new, |at| free.swap_remove(at))
        };
        if buffer.len() < length {
            buffer.resize(length, 0.0);
        }
        buffer
    }

    /// Returns a buffer of [`Arena::acquire`].
    pub fn release(&self, buffer: Vec<f32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.iter().map(|buffer| buffer.capacity() * size_of::<f32>()).sum()
    }
}
