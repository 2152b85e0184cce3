//! Workspace buffers that outlive a run, so that a frame causes no large allocation.

use std::sync::{Mutex, PoisonError};

/// Buffers that are not in use. Every engine has one arena, and a thread takes a buffer for as long as it needs it.
#[derive(Debug, Default)]
pub struct Arena(Mutex<Vec<Vec<f32>>>);

impl Arena {
    /// Calls `work` with a buffer of `length` values, whose content is unspecified.
    pub fn lend<R>(&self, length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
        let mut buffer = self.acquire(length);
        let result = work(&mut buffer[..length]);
        self.release(buffer);
        result
    }

    /// Returns a buffer of at least `length` values with unspecified content.
    pub fn acquire(&self, length: usize) -> Vec<f32> {
        let mut buffer = {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // The smallest buffer that is large enough, otherwise the largest. So there are few buffers, and each grows
            // only once.
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
