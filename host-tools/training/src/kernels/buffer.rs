//! Output buffers that are written before they are read, and pointers shared between tasks that write disjoint parts.

/// A buffer of `len` values that a kernel fills completely; nothing is zeroed first.
pub(crate) struct Output {
    values: Vec<f32>,
    len: usize,
}

impl Output {
    /// Reserves room for `len` values.
    pub(crate) fn new(len: usize) -> Self {
        let mut values = Vec::with_capacity(len);
        large_pages(&mut values);
        Self { values, len }
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

/// Asks for large pages where the buffer spans several: touching a fresh map of 50 MB page by page costs more than computing it.
#[cfg(target_os = "linux")]
fn large_pages(values: &mut Vec<f32>) {
    const LARGE: usize = 2 << 20;
    let (start, bytes) = (values.as_mut_ptr() as usize, values.capacity() * size_of::<f32>());
    let (first, end) = (start.next_multiple_of(LARGE), (start + bytes) / LARGE * LARGE);
    if bytes >= 4 * LARGE && first < end {
        // SAFETY: the range lies within this buffer, and the advice changes how it is backed, not what it holds. A refusal is harmless.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn large_pages(_: &mut Vec<f32>) {}

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
