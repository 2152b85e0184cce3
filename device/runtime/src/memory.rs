//! Buffers of a pass: real buffers, or only their lengths.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use clr_kernels::Arena;

/// Source of a pass's buffers. A pass takes and returns the same buffers, whether or not it computes values.
pub(crate) trait Memory {
    /// A buffer.
    type Buffer: Buffer;
    /// Whether buffers contain values, so that steps have to be computed.
    const COMPUTES: bool;
    /// Returns a buffer of `length` values with unspecified content.
    fn take(&self, length: usize) -> Self::Buffer;
    /// Returns a buffer.
    fn give(&self, buffer: Self::Buffer);
    /// Frees the buffers that are not in use, because the next ones have other lengths.
    fn trim(&self);
}

/// Values of a pass.
pub(crate) trait Buffer {
    /// The values; none of a counted buffer.
    fn values(&self) -> &[f32];
    /// The values; none of a counted buffer.
    fn values_mut(&mut self) -> &mut [f32];
}

/// Buffers of exact lengths that outlive an image, so that a training step does not have to request memory from the
/// system.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Free<Vec<Vec<f32>>>>);

/// Buffers that are not in use, by length, and the total number of values of all buffers.
#[derive(Debug, Default)]
struct Free<T> {
    unused: HashMap<usize, T>,
    values: usize,
    peak: usize,
}

impl<T> Free<T> {
    fn grow(&mut self, length: usize) {
        self.values += length;
        self.peak = self.peak.max(self.values);
    }
}

impl Buffers {
    /// Returns the maximum total number of values of all buffers at any time.
    pub(crate) fn peak(&self) -> usize {
        self.lock().peak
    }

    fn lock(&self) -> MutexGuard<'_, Free<Vec<Vec<f32>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory for Buffers {
    type Buffer = Vec<f32>;
    const COMPUTES: bool = true;

    fn take(&self, length: usize) -> Vec<f32> {
        let found = {
            let mut pool = self.lock();
            let found = pool.unused.get_mut(&length).and_then(Vec::pop);
            if found.is_none() {
                pool.grow(length);
            }
            found
        };
        found.unwrap_or_else(|| vec![0.0; length])
    }

    fn give(&self, buffer: Vec<f32>) {
        self.lock().unused.entry(buffer.len()).or_default().push(buffer);
    }

    fn trim(&self) {
        let mut pool = self.lock();
        let free = std::mem::take(&mut pool.unused);
        pool.values -= free
            .iter()
            .map(|(length, buffers)| length * buffers.len())
            .sum::<usize>();
    }
}

impl Buffer for Vec<f32> {
    fn values(&self) -> &[f32] {
        self
    }

    fn values_mut(&mut self) -> &mut [f32] {
        self
    }
}

/// The lengths of [`Buffers`], without values.
#[derive(Debug, Default)]
pub(crate) struct Counted(RefCell<Free<usize>>);

/// The length of a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length(usize);

impl Counted {
    /// Returns the maximum total number of values of all buffers at any time.
    pub(crate) fn peak(&self) -> usize {
        self.0.borrow().peak
    }
}

impl Memory for Counted {
    type Buffer = Length;
    const COMPUTES: bool = false;

    fn take(&self, length: usize) -> Length {
        let mut pool = self.0.borrow_mut();
        match pool.unused.get_mut(&length) {
            Some(free) if *free > 0 => *free -= 1,
            _ => pool.grow(length),
        }
        Length(length)
    }

    fn give(&self, Length(length): Length) {
        *self.0.borrow_mut().unused.entry(length).or_default() += 1;
    }

    fn trim(&self) {
        let mut pool = self.0.borrow_mut();
        let free = std::mem::take(&mut pool.unused);
        pool.values -= free.iter().map(|(length, buffers)| length * buffers).sum::<usize>();
    }
}

impl Buffer for Length {
    fn values(&self) -> &[f32] {
        &[]
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut []
    }
}

/// Bytes of a cache line.
const ALIGNMENT: usize = 64;

/// Buffers for inference: the best fit among the free ones, so that few buffers serve all steps.
impl Memory for Arena {
    type Buffer = Lent;
    const COMPUTES: bool = true;

    fn take(&self, length: usize) -> Lent {
        let buffer = self.acquire(length + ALIGNMENT / size_of::<f32>());
        // Vectors of bytes have the length of a cache line, and one that crosses lines takes twice as long.
        let start = buffer
            .as_ptr()
            .align_offset(ALIGNMENT)
            .min(ALIGNMENT / size_of::<f32>());
        Lent { buffer, start, length }
    }

    fn give(&self, lent: Lent) {
        self.release(lent.buffer);
    }

    fn trim(&self) {}
}

/// A part of a buffer of an [`Arena`].
#[derive(Debug)]
pub(crate) struct Lent {
    buffer: Vec<f32>,
    start: usize,
    length: usize,
}

impl Buffer for Lent {
    fn values(&self) -> &[f32] {
        &self.buffer[self.start..self.start + self.length]
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..self.start + self.length]
    }
}
