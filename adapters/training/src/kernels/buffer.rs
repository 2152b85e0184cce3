//! Output buffers that are written before they are read, and pointers shared between tasks that write disjoint parts.

/// A buffer of `len` values that a kernel fills completely; nothing is zeroed first.
pub(crate) struct Output {
    values: Vec<f32>,
    len: usize,
}

impl Output {
    /// Reserves room for `len` values.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            values: Vec::with_capacity(len),
            len,
        }
    }

    /// Where tasks write.
    pub(crate) fn shared(&mut self) -> Shared<f32> {
        Shared(self.values.as_mut_ptr())
    }

    /// The finished buffer.
    ///
    /// # Safety
    /// All `len` values have been written.
    pub(crate) unsafe fn finish(mut self) -> Vec<f32> {
        // SAFETY: the capacity is `len`, and the caller vouches for the values.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

/// A pointer that tasks share; each task writes a part of its own.
pub(crate) struct Shared<T>(pub(crate) *mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: users write disjoint parts, which is what each use explains.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The address of element `index`.
    ///
    /// # Safety
    /// `index` lies within the buffer.
    pub(crate) unsafe fn at(self, index: usize) -> *mut T {
        // SAFETY: the caller vouches for the bounds.
        unsafe { self.0.add(index) }
    }
}

/// The sizes of an NCHW map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
}

impl Map {
    /// Pixels of a plane.
    pub(crate) fn plane(self) -> usize {
        self.h * self.w
    }

    /// Values in all.
    pub(crate) fn len(self) -> usize {
        self.n * self.c * self.plane()
    }
}
