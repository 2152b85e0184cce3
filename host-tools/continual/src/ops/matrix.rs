//! Matrix products of views into slices, by the crate `gemm`.

use candle_core::Result;
use gemm::Parallelism;

/// A matrix of f32 values in a slice. Element (r, c) has the index `r · row_stride + c · column_stride`.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl View {
    /// Rows of `columns` values, `row_stride` apart.
    pub(super) fn rows(rows: usize, columns: usize, row_stride: usize) -> Self {
        Self {
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Swaps rows and columns.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Returns the number of values that a slice needs at least.
    fn extent(self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// Kind of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// Whether the product is added to the result.
    pub(super) add: bool,
    /// Whether several threads compute it. The result has the same bits.
    pub(super) threads: bool,
}

/// Computes `c = a · b`, or `c += a · b`. Distinct elements of `c` must have distinct indices, which holds
/// for views of rows that do not overlap.
///
/// # Errors
/// Returns candle's error if the sizes of the matrices or slices do not fit.
pub(super) fn multiply(
    (a, a_view): (&[f32], View),
    (b, b_view): (&[f32], View),
    (c, c_view): (&mut [f32], View),
    options: Product,
) -> Result<()> {
    let fits = a_view.columns == b_view.rows
        && a_view.rows == c_view.rows
        && b_view.columns == c_view.columns
        && a_view.extent() <= a.len()
        && b_view.extent() <= b.len()
        && c_view.extent() <= c.len();
    if !fits {
        candle_core::bail!("matrix product: {a_view:?} · {b_view:?} does not give {c_view:?}");
    }
    // SAFETY: every index that `gemm` forms is below the extent of its view, which the check above compares with the
    // length of the slice. `c` is borrowed exclusively, and all values are initialised.
    #[expect(
        unsafe_code,
        reason = "`gemm` takes pointers; ndarray's safe product took 1.12 to 1.24 times as long, and has no threads"
    )]
    unsafe {
        gemm::gemm(
            c_view.rows,
            c_view.columns,
            a_view.columns,
            c.as_mut_ptr(),
            c_view.column_stride as isize,
            c_view.row_stride as isize,
            options.add,
            a.as_ptr(),
            a_view.column_stride as isize,
            a_view.row_stride as isize,
            b.as_ptr(),
            b_view.column_stride as isize,
            b_view.row_stride as isize,
            1.0_f32,
            1.0,
            false,
            false,
            false,
            if options.threads {
                Parallelism::Rayon(rayon::current_num_threads())
            } else {
                Parallelism::None
            },
        );
    }
    Ok(())
}
