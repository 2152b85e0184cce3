//! Workspace buffers that outlive a run, so that a frame causes no large allocation.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// Buffers that are not in use. Every engine has one arena, and a thread takes a buffer for as long as it needs it.
#[derive(Debug, Default)]
pub struct Arena {
    floats: Mutex<Vec<Vec<f32>>>,
    bytes: Mutex<Vec<Vec<u8>>>,
}

impl Arena {
    /// Calls `work` with a buffer of `length` values, whose content is unspecified.
    pub fn lend<R>(&self, length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
        let mut buffer = self.acquire(length);
        let result = work(&mut buffer[..length]);
        self.release(buffer);
        result
    }

    /// Does the same with a buffer that starts at a cache line.
    pub(crate) fn lend_aligned<R>(&self, length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
        lend_aligned(&self.floats, length, work)
    }

    /// Does the same with bytes.
    pub(crate) fn lend_bytes<R>(&self, length: usize, work: impl FnOnce(&mut [u8]) -> R) -> R {
        lend_aligned(&self.bytes, length, work)
    }

    /// Returns a buffer of at least `length` values with unspecified content.
    pub fn acquire(&self, length: usize) -> Vec<f32> {
        take(&self.floats, length)
    }

    /// Returns a buffer of [`Arena::acquire`].
    pub fn release(&self, buffer: Vec<f32>) {
        held(&self.floats).push(buffer);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let floats = held(&self.floats).iter().map(Vec::capacity).sum::<usize>();
        let bytes = held(&self.bytes).iter().map(Vec::capacity).sum::<usize>();
        floats * size_of::<f32>() + bytes
    }
}

fn lend_aligned<T: Copy + Default, R>(
    buffers: &Mutex<Vec<Vec<T>>>,
    length: usize,
    work: impl FnOnce(&mut [T]) -> R,
) -> R {
    let mut buffer = take(buffers, length + CACHE_LINE);
    // The offset may be unknown (`usize::MAX`), in Miri for instance.
    let start = buffer.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
    let result = work(&mut buffer[start..start + length]);
    held(buffers).push(buffer);
    result
}

fn held<T>(buffers: &Mutex<Vec<Vec<T>>>) -> MutexGuard<'_, Vec<Vec<T>>> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a buffer of at least `length` values: the smallest one that is large enough, otherwise the largest. So there
/// are few buffers, and each grows only once.
fn take<T: Copy + Default>(buffers: &Mutex<Vec<Vec<T>>>, length: usize) -> Vec<T> {
    let mut buffer = {
        let mut free = held(buffers);
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
        buffer.resize(length, T::default());
    }
    buffer
}
