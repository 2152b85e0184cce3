//! Backend that runs the kernels: a GPU or, in tests, kernels compiled for the CPU.

use super::arguments::{BLOCK, Parameters};
use candle_core::Result;

/// Maximum number of blocks of an element-wise kernel. With more values, each thread processes several.
const MAX_BLOCKS: usize = 1 << 16;

/// Read-only part of a buffer.
pub(crate) struct Part<'a, T> {
    pub(crate) buffer: &'a T,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl<T> Clone for Part<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Part<'_, T> {}

impl<T> Part<'_, T> {
    /// Returns a view of `len` values of this part, from `start` on.
    pub(crate) fn part(self, start: usize, len: usize) -> Self {
        debug_assert!(start + len <= self.len);
        Self {
            start: self.start + start,
            len,
            ..self
        }
    }
}

/// A part of a backend's buffer.
pub(crate) type View<'a, B> = Part<'a, <B as Backend>::Buffer>;

/// A device with f32 buffers that can launch kernels and multiply matrices, in the order of the calls.
pub(crate) trait Backend: Sized {
    /// An owned buffer.
    type Buffer;

    /// Allocates a buffer of `len` uninitialised values.
    fn allocate(&self, len: usize) -> Result<Self::Buffer>;

    /// Returns a view of a complete buffer.
    fn view<'a>(&self, buffer: &'a Self::Buffer) -> Part<'a, Self::Buffer>;

    /// Runs a kernel of `kernels/` with `blocks` blocks of [`BLOCK`] threads.
    fn launch(
        &self,
        kernel: &'static str,
        blocks: usize,
        inputs: &[Option<View<'_, Self>>],
        outputs: &mut [&mut Self::Buffer],
        parameters: Parameters,
    ) -> Result<()>;

    /// Multiplies `a` and `b` as described by `gemm`, and writes the result to `c` from `start` on.
    fn multiply(
        &self,
        gemm: Gemm,
        a: View<'_, Self>,
        b: View<'_, Self>,
        c: &mut Self::Buffer,
        start: usize,
    ) -> Result<()>;

    /// Runs an element-wise kernel with one output of `count` values.
    fn map(
        &self,
        kernel: &'static str,
        count: usize,
        inputs: &[Option<View<'_, Self>>],
        parameters: Parameters,
    ) -> Result<Self::Buffer> {
        let mut output = self.allocate(count)?;
        self.launch(kernel, blocks(count), inputs, &mut [&mut output], parameters)?;
        Ok(output)
    }
}

/// Returns the number of blocks of an element-wise kernel for `count` values.
pub(crate) fn blocks(count: usize) -> usize {
    count.div_ceil(BLOCK).clamp(1, MAX_BLOCKS)
}

/// Description of `batch` products `C[i] (m × n) = A[i] (m × k) · B[i] (k × n)` of column-major matrices. `lda`, `ldb`
/// and `ldc` are the leading dimensions, and `step_*` is the number of values between consecutive matrices. The names
/// are those of cuBLAS' `gemmStridedBatched`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gemm {
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Whether B is stored transposed, as n × k.
    pub(crate) transposed_b: bool,
    pub(crate) lda: usize,
    pub(crate) ldb: usize,
    pub(crate) ldc: usize,
    pub(crate) step_a: usize,
    pub(crate) step_b: usize,
    pub(crate) step_c: usize,
}

impl Gemm {
    /// Returns the product of row-major matrices `C[i] (rows × columns) = W · X[i]`. W is `rows × depth` (if
    /// `transposed`, `depth × rows`) and shared by all products; X[i] is `depth × columns`. The arguments of
    /// [`Backend::multiply`] are X and W.
    ///
    /// To cuBLAS a row-major matrix is its transpose, so it computes `C[i]ᵀ = X[i]ᵀ · Wᵀ`.
    pub(crate) fn with_shared(batch: usize, rows: usize, columns: usize, depth: usize, transposed: bool) -> Self {
        Self {
            batch,
            m: columns,
            n: rows,
            k: depth,
            transposed_b: transposed,
            lda: columns,
            ldb: if transposed { rows } else { depth },
            ldc: columns,
            step_a: depth * columns,
            step_b: 0,
            step_c: rows * columns,
        }
    }
}
