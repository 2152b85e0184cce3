//! Pooling on blocks of sixteen channels.

use super::simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut};

/// Kind of pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest; padding never wins.
    Max,
    /// The mean (ONNX `AveragePool`).
    Average {
        /// Whether the padding is included (ONNX `count_include_pad`).
        include_pad: bool,
    },
}

/// A pooling window on a plane. All pairs are rows, columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Kind of pooling.
    pub kind: PoolKind,
    /// Size of the input.
    pub input: [usize; 2],
    /// Size of the output. With ONNX's `ceil_mode`, the last windows extend beyond the padded input.
    pub output: [usize; 2],
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Distance of windows.
    pub stride: [usize; 2],
    /// Distance between the positions that a window reads.
    pub dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
}

/// The positions that one window reads along one axis: `from`, `from + step`, … below `to`.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) step: usize,
}

impl Window {
    #[inline(always)]
    pub(crate) fn places(self) -> impl Iterator<Item = usize> + Clone {
        (self.from..self.to).step_by(self.step)
    }
}

impl PoolShape {
    /// Returns the rows (axis 0) or columns of window `at` that are inside the plane.
    #[inline(always)]
    pub(crate) fn window(&self, axis: usize, at: usize) -> Window {
        let (start, pad, step) = (at * self.stride[axis], self.pads[axis], self.dilation[axis]);
        // The first position of the window that is not in the padding before the plane.
        let skipped = pad.saturating_sub(start).div_ceil(step);
        let from = start + skipped * step - pad;
        let to = (start + (self.kernel[axis] - 1) * step + 1).saturating_sub(pad);
        Window {
            from,
            to: to.min(self.input[axis]),
            step,
        }
    }

    /// Returns the divisor of the mean for the window at `at` (row, column), at least 1. With `include_pad`, the part
    /// of the window inside the padded plane counts.
    pub(crate) fn count(&self, at: [usize; 2], include_pad: bool) -> usize {
        let along = |axis: usize| {
            if include_pad {
                let start = at[axis] * self.stride[axis];
                let padded = self.input[axis] + self.pads[axis] + self.pads[axis + 2];
                padded
                    .saturating_sub(start)
                    .div_ceil(self.dilation[axis])
                    .min(self.kernel[axis])
            } else {
                self.window(axis, at[axis]).places().count()
            }
        };
        (along(0) * along(1)).max(1)
    }
}

/// Pools one block: `x [H, W, 16]` to `out [H', W', 16]`. A window that contains only padding has the maximum −∞ and
/// the mean 0.
pub fn pool(isa: Isa, shape: &PoolShape, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), shape.input[0] * shape.input[1] * LANES);
    assert_eq!(out.len(), shape.output[0] * shape.output[1] * LANES);
    dispatch(isa, Pool { shape, x, out });
}

struct Pool<'a> {
    shape: &'a PoolShape,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Pool<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PoolShape {
            kind, input, output, ..
        } = *self.shape;
        let (plane, out) = (vectors(self.x), vectors_mut(self.out));
        for (y, row) in out.chunks_exact_mut(output[1]).enumerate() {
            let rows = self.shape.window(0, y);
            for (x, out) in row.iter_mut().enumerate() {
                let columns = self.shape.window(1, x);
                let max = kind == PoolKind::Max;
                let mut value = s.splat(if max { f32::NEG_INFINITY } else { 0.0 });
                for iy in rows.places() {
                    let line = &plane[iy * input[1]..][..input[1]];
                    for ix in columns.places() {
                        let next = s.load(&line[ix]);
                        value = if max { next.max(value) } else { value.add(next) };
                    }
                }
                if let PoolKind::Average { include_pad } = kind {
                    let count = self.shape.count([y, x], include_pad);
                    value = value.mul(s.splat(1.0 / count as f32));
                }
                value.store(out);
            }
        }
    }
}

/// Computes the mean of every channel: `x [C / 16, plane / 16, 16]` to `out [C / 16, 16]`.
pub fn global_average(isa: Isa, x: &[f32], plane: usize, out: &mut [f32]) {
    assert_eq!(x.len() / plane * LANES, out.len());
    dispatch(isa, GlobalAverage { x, plane, out });
}

struct GlobalAverage<'a> {
    x: &'a [f32],
    plane: usize,
    out: &'a mut [f32],
}

impl Kernel for GlobalAverage<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let share = s.splat(1.0 / (self.plane / LANES) as f32);
        for (x, out) in self.x.chunks_exact(self.plane).zip(vectors_mut(self.out)) {
            let mut sum = s.zero();
            for pixel in vectors(x) {
                sum = sum.add(s.load(pixel));
            }
            sum.mul(share).store(out);
        }
    }
}
