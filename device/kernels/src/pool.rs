//! Pooling on blocks of sixteen channels.

use super::{
    dispatch::{Kernel, dispatch},
    lanes::Lanes,
    simd::{LANES, Level},
};

/// Which pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest; padding never wins.
    Max,
    /// The mean; whether padding counts (ONNX `count_include_pad`).
    Average {
        /// Whether padding counts.
        include_pad: bool,
    },
}

/// A pooling window on a plane. All pairs are rows, columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Which pooling.
    pub kind: PoolKind,
    /// Size of the input.
    pub input: [usize; 2],
    /// Size of the output.
    pub output: [usize; 2],
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Distance of windows.
    pub stride: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
}

impl PoolShape {
    /// The rows or columns, from and to, of the window's part inside the plane.
    pub(crate) fn window(&self, axis: usize, at: usize) -> (usize, usize) {
        let start = at * self.stride[axis];
        let from = start.max(self.pads[axis]) - self.pads[axis];
        let to = (start + self.kernel[axis])
            .saturating_sub(self.pads[axis])
            .min(self.input[axis]);
        (from, to)
    }

    /// What the mean of the window at `at` (row, column) divides by, at least 1. `include_pad` counts the window's part inside the padded
    /// plane.
    pub(crate) fn count(&self, at: [usize; 2], include_pad: bool) -> usize {
        let along = |axis: usize| {
            if include_pad {
                let start = at[axis] * self.stride[axis];
                (start + self.kernel[axis])
                    .min(self.input[axis] + self.pads[axis] + self.pads[axis + 2])
                    .saturating_sub(start)
            } else {
                let (from, to) = self.window(axis, at[axis]);
                to.saturating_sub(from)
            }
        };
        (along(0) * along(1)).max(1)
    }
}

/// Pools one block: `x [H, W, 16]` to `out [H', W', 16]`.
pub fn pool(level: Level, shape: &PoolShape, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), shape.input[0] * shape.input[1] * LANES);
    assert_eq!(out.len(), shape.output[0] * shape.output[1] * LANES);
    dispatch(level, &mut Pool { shape, x, out });
}

struct Pool<'a> {
    shape: &'a PoolShape,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Pool<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        let PoolShape {
            kind, input, output, ..
        } = *self.shape;
        for y in 0..output[0] {
            let (y0, y1) = self.shape.window(0, y);
            for x in 0..output[1] {
                let (x0, x1) = self.shape.window(1, x);
                let max = kind == PoolKind::Max;
                // SAFETY: the window is cut to the plane, lengths are checked by `pool`.
                unsafe {
                    let mut value = V::splat(if max { f32::NEG_INFINITY } else { 0.0 });
                    for iy in y0..y1 {
                        for ix in x0..x1 {
                            let next = V::load(self.x.as_ptr().add((iy * input[1] + ix) * LANES));
                            value = if max { next.max(value) } else { value.add(next) };
                        }
                    }
                    if let PoolKind::Average { include_pad } = kind {
                        let count = self.shape.count([y, x], include_pad);
                        value = value.mul(V::splat(1.0 / count as f32));
                    }
                    value.store(self.out.as_mut_ptr().add((y * output[1] + x) * LANES));
                }
            }
        }
    }
}

/// The mean of every channel: `x [C / 16, plane / 16, 16]` to `out [C / 16, 16]`.
pub fn global_average(level: Level, x: &[f32], plane: usize, out: &mut [f32]) {
    assert_eq!(x.len() / plane * LANES, out.len());
    for (x, out) in x.chunks_exact(plane).zip(out.chunks_exact_mut(LANES)) {
        dispatch(level, &mut GlobalAverage { x, out });
    }
}

struct GlobalAverage<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for GlobalAverage<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        // SAFETY: `global_average` hands over whole blocks of sixteen.
        unsafe {
            let mut sum = V::splat(0.0);
            for pixel in self.x.chunks_exact(LANES) {
                sum = sum.add(V::load(pixel.as_ptr()));
            }
            let pixels = (self.x.len() / LANES) as f32;
            sum.mul(V::splat(1.0 / pixels)).store(self.out.as_mut_ptr());
        }
    }
}
