//! The matrix micro-kernel and constant matrices packed for it.
//!
//! `C[m, cols] (+)= A[m, k] · B[k, cols]`: A is a frozen weight, packed once in panels of eight rows; B is a tile of columns that a
//! convolution gathers into a scratch buffer, row-major; C is a scratch tile of the same width.

use super::simd::Simd;

/// Rows of a packed panel.
pub(crate) const PANEL: usize = 8;

/// Vectors side by side in the micro-kernel.
pub(crate) const COLUMNS: usize = 3;

/// A constant matrix `[rows, depth]` in panels: panel `i` holds rows `8 i …`, depth-major, zero-filled to eight.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    values: Vec<f32>,
}

impl Packed {
    /// Packs the matrix whose element `(row, k)` is `value(row, k)`.
    pub(crate) fn new(rows: usize, depth: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let panels = rows.div_ceil(PANEL);
        let mut values = vec![0.0; panels * PANEL * depth];
        for panel in 0..panels {
            for k in 0..depth {
                for r in 0..PANEL.min(rows - panel * PANEL) {
                    values[(panel * depth + k) * PANEL + r] = value(panel * PANEL + r, k);
                }
            }
        }
        Self { rows, depth, values }
    }

    /// Panels of eight rows.
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// The address of panel `panel` at depth `k`.
    pub(crate) fn panel(&self, panel: usize, k: usize) -> *const f32 {
        self.values[(panel * self.depth + k) * PANEL..].as_ptr()
    }
}

/// Multiplies panels `panels` of `a`, depth `k0 .. k0 + depth`, with a tile of `b`; adds to `c` unless `first`.
///
/// # Safety
/// `b` holds `depth` rows of `width` values and `c` has a row of `width` values for each panel row, from the first panel
/// given; `width` is a multiple of the vector length; the processor has S.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd>(
    a: &Packed,
    panels: std::ops::Range<usize>,
    k0: usize,
    depth: usize,
    b: *const f32,
    c: *mut f32,
    width: usize,
    first: bool,
) {
    let start = panels.start;
    for panel in panels {
        let a = a.panel(panel, k0);
        for half in 0..PANEL / S::ROWS {
            let mut column = 0;
            // SAFETY: rows and columns stay within the tile, as the caller vouches.
            unsafe {
                let a = a.add(half * S::ROWS);
                let c = c.add(((panel - start) * PANEL + half * S::ROWS) * width);
                while column + COLUMNS * S::LANES <= width {
                    rows::<S, COLUMNS>(a, b.add(column), c.add(column), depth, width, first);
                    column += COLUMNS * S::LANES;
                }
                while column + 2 * S::LANES <= width {
                    rows::<S, 2>(a, b.add(column), c.add(column), depth, width, first);
                    column += 2 * S::LANES;
                }
                while column < width {
                    rows::<S, 1>(a, b.add(column), c.add(column), depth, width, first);
                    column += S::LANES;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn rows<S: Simd, const N: usize>(
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    depth: usize,
    width: usize,
    first: bool,
) {
    // SAFETY: as `multiply`.
    unsafe {
        if S::ROWS == 8 {
            micro::<S, 8, N>(a, b, c, depth, width, first);
        } else {
            micro::<S, 4, N>(a, b, c, depth, width, first);
        }
    }
}

#[inline(always)]
unsafe fn micro<S: Simd, const R: usize, const N: usize>(
    mut a: *const f32,
    mut b: *const f32,
    c: *mut f32,
    depth: usize,
    width: usize,
    first: bool,
) {
    // SAFETY: as `multiply`.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; R];
        for _ in 0..depth {
            let mut v = [S::splat(0.0); N];
            for (j, v) in v.iter_mut().enumerate() {
                *v = S::load(b.add(j * S::LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(*a.add(r));
                for (acc, &v) in acc.iter_mut().zip(&v) {
                    *acc = S::fma(x, v, *acc);
                }
            }
            a = a.add(PANEL);
            b = b.add(width);
        }
        for (r, acc) in acc.iter().enumerate() {
            for (j, &acc) in acc.iter().enumerate() {
                let c = c.add(r * width + j * S::LANES);
                S::store(c, if first { acc } else { S::add(S::load(c), acc) });
            }
        }
    }
}
