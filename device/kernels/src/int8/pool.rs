//! Pooling of bytes.

use crate::{
    Isa, PoolKind, PoolShape,
    pool::Window,
    simd::{
        LANES, Simd, Vector,
        int8::{Int8Kernel, Int8Simd, Level, Rounding, dispatch},
    },
};

/// Quantisation of a mean: `r = (Σ x − n · zero_point) · scale / n`, where n is the number of values in the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Int8Mean {
    /// The input's zero point.
    pub zero_point: u8,
    /// The input's scale, divided by the output's.
    pub scale: f32,
}

/// Pools one block: `x [H, W, 16]` to `out [H', W', 16]` (ONNX `MaxPool` and `AveragePool`, opset 12).
///
/// A maximum has the quantisation of `x`; `mean` and the zero point of `rounding` do not matter, but its bounds do. A
/// window that contains only padding has the maximum 0. A mean is `r = f32(sum) · (scale / count)`, where `sum` is the
/// exact sum of `x − zero_point` inside the plane, and is then quantised to `rounding`.
pub fn pool_bytes(isa: Isa, shape: &PoolShape, x: &[u8], mean: Int8Mean, rounding: Rounding, out: &mut [u8]) {
    assert_eq!(x.len(), shape.input[0] * shape.input[1] * LANES);
    assert_eq!(out.len(), shape.output[0] * shape.output[1] * LANES);
    let kernel = Pool {
        shape,
        x,
        mean,
        rounding,
        out,
    };
    dispatch(Level::of(isa), kernel);
}

struct Pool<'a> {
    shape: &'a PoolShape,
    x: &'a [u8],
    mean: Int8Mean,
    rounding: Rounding,
    out: &'a mut [u8],
}

impl Int8Kernel for Pool<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        let PoolShape { input, output, .. } = *self.shape;
        let plane: &[[u8; LANES]] = self.x.as_chunks().0;
        let out: &mut [[u8; LANES]] = self.out.as_chunks_mut().0;
        let PoolKind::Average { include_pad } = self.shape.kind else {
            return maximum(self.shape, plane, self.rounding, out);
        };
        let range = s.range(self.rounding);
        let zero_point = i32::from(self.mean.zero_point);
        for (y, row) in out.chunks_exact_mut(output[1]).enumerate() {
            let rows = self.shape.window(0, y);
            for (x, out) in row.iter_mut().enumerate() {
                let columns = self.shape.window(1, x);
                let mut sum = s.splat(0);
                let mut inside = 0;
                for iy in rows.places() {
                    let line = &plane[iy * input[1]..][..input[1]];
                    for ix in columns.places() {
                        sum = s.add(sum, s.widen(&line[ix]));
                        inside += 1;
                    }
                }
                let count = self.shape.count([y, x], include_pad);
                let share = s.float().splat(self.mean.scale / count as f32);
                let mean = s.real(s.sub(sum, s.splat(inside * zero_point))).mul(share);
                let mut bytes = [0; 4 * LANES];
                s.bytes([s.round(mean); 4], range, &mut bytes);
                out.copy_from_slice(&bytes[..LANES]);
            }
        }
    }
}

/// Computes maxima: over the rows of a window for all columns first, and then over the window's columns.
#[inline(always)]
fn maximum(shape: &PoolShape, plane: &[[u8; LANES]], rounding: Rounding, out: &mut [[u8; LANES]]) {
    let (width, columns) = (shape.input[1], shape.output[1]);
    let windows: Vec<Window> = (0..columns).map(|x| shape.window(1, x)).collect();
    let mut largest = vec![[0; LANES]; width];
    for (y, row) in out.chunks_exact_mut(columns).enumerate() {
        largest.fill([rounding.low; LANES]);
        for iy in shape.window(0, y).places() {
            let line = plane[iy * width..][..width].as_flattened();
            for (largest, &byte) in largest.as_flattened_mut().iter_mut().zip(line) {
                *largest = byte.max(*largest);
            }
        }
        for (window, out) in windows.iter().zip(row) {
            let mut bytes = [rounding.low; LANES];
            for ix in window.places() {
                for lane in 0..LANES {
                    bytes[lane] = bytes[lane].max(largest[ix][lane]);
                }
            }
            *out = bytes.map(|byte| byte.min(rounding.high));
        }
    }
}

/// Computes the mean of every channel: `x [⌈C / 16⌉, plane / 16, 16]` to real values `out [⌈C / 16⌉, 16]` (ONNX
/// `GlobalAveragePool`, opset 1). The sum is exact; the mean is `f32(Σ x − n · zero_point) · (scale / n)`.
pub fn global_average_bytes(isa: Isa, x: &[u8], plane: usize, mean: Int8Mean, out: &mut [f32]) {
    assert!(plane > 0 && plane.is_multiple_of(LANES) && x.len().is_multiple_of(plane));
    assert_eq!(x.len() / plane * LANES, out.len());
    dispatch(Level::of(isa), GlobalAverage { x, plane, mean, out });
}

struct GlobalAverage<'a> {
    x: &'a [u8],
    plane: usize,
    mean: Int8Mean,
    out: &'a mut [f32],
}

impl Int8Kernel for GlobalAverage<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        let count = self.plane / LANES;
        let share = s.float().splat(self.mean.scale / count as f32);
        let offset = s.splat((count as i32).wrapping_mul(i32::from(self.mean.zero_point)));
        for (x, out) in self.x.chunks_exact(self.plane).zip(self.out.as_chunks_mut().0) {
            let mut sum = s.splat(0);
            for pixel in x.as_chunks().0 {
                sum = s.add(sum, s.widen(pixel));
            }
            s.real(s.sub(sum, offset)).mul(share).store(out);
        }
    }
}
