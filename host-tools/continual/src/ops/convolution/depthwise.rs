//! Convolutions of each channel alone.
//!
//! A plane of the input is divided into phases: with stride `s`, phase `(a, b)` has the rows `a, a + s, …` and the
//! columns `b, b + s, …` of the padded plane. All rows of output and phases have the same pitch, so each position of the
//! kernel is one operation on two long slices. Values between the rows of the output are zeros.

use rayon::prelude::*;

use super::{columns::copy, shape::ConvShape};
use crate::ops::vectors::{add_scaled, dot};

/// The layout of phases and output.
struct Phases<'a> {
    shape: &'a ConvShape,
    /// Values from one row to the next.
    pitch: usize,
    /// Values of an output plane.
    length: usize,
    /// Values of a phase.
    phase: usize,
    /// The rows that have values of the plane, see [`Phases::rows`].
    rows: Vec<(usize, usize, usize)>,
    /// Per position of the kernel: the index of the value that output 0 reads, in all phases one after the other.
    taps: Vec<usize>,
}

impl<'a> Phases<'a> {
    fn new(shape: &'a ConvShape) -> Self {
        let ConvShape {
            kernel,
            stride,
            dilation,
            to,
            ..
        } = *shape;
        let extra = |axis: usize| (kernel[axis] - 1) * dilation[axis] / stride[axis];
        let pitch = to[1] + extra(1);
        let phase = (to[0] + extra(0)) * pitch;
        let taps = (0..shape.taps()).map(|tap| {
            let [y, x] = [tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]];
            let index = y % stride[0] * stride[1] + x % stride[1];
            index * phase + y / stride[0] * pitch + x / stride[1]
        });
        Self {
            shape,
            pitch,
            length: (to[0].max(1) - 1) * pitch + to[1],
            phase,
            rows: Self::rows(shape, pitch, phase),
            taps: taps.collect(),
        }
    }

    /// Returns the number of values of all phases.
    fn values(&self) -> usize {
        self.phase * self.shape.stride[0] * self.shape.stride[1]
    }

    /// Returns the rows of the phases that have values of the plane: the indices of the first value in the phases and in
    /// the plane, and the number of values, which are `stride` apart in the plane.
    fn rows(shape: &ConvShape, pitch: usize, phase: usize) -> Vec<(usize, usize, usize)> {
        let ConvShape { stride, pads, from, .. } = *shape;
        let mut all = Vec::new();
        for index in 0..stride[0] * stride[1] {
            let [first_row, first_column] = [index / stride[1], index % stride[1]];
            // The columns `column` with `0 ≤ first_column + column · stride − left < width`.
            let start = pads[1].saturating_sub(first_column).div_ceil(stride[1]);
            let end = (from[1] + pads[1]).saturating_sub(first_column).div_ceil(stride[1]);
            let end = end.min(pitch);
            for row in 0..phase / pitch.max(1) {
                let y = (first_row + row * stride[0]).checked_sub(pads[0]);
                if let Some(y) = y.filter(|&y| y < from[0] && start < end) {
                    let x = first_column + start * stride[1] - pads[1];
                    all.push((index * phase + row * pitch + start, y * from[1] + x, end - start));
                }
            }
        }
        all
    }

    /// Copies a plane to its phases. The values outside of it stay.
    fn divide(&self, plane: &[f32], values: &mut [f32]) {
        for &(to, from, count) in &self.rows {
            copy(&mut values[to..to + count], &plane[from..], self.shape.stride[1]);
        }
    }

    /// Adds the phases to the plane that they were copied from.
    fn collect(&self, values: &[f32], plane: &mut [f32]) {
        for &(from, to, count) in &self.rows {
            let to = plane[to..].iter_mut().step_by(self.shape.stride[1]);
            for (to, from) in to.zip(&values[from..from + count]) {
                *to += from;
            }
        }
    }

    /// Copies the rows of an output plane to the pitch. The values between them stay.
    fn spread(&self, plane: &[f32], to: &mut [f32]) {
        let width = self.shape.to[1];
        for (row, from) in plane.chunks_exact(width).enumerate() {
            to[row * self.pitch..][..width].copy_from_slice(from);
        }
    }
}

/// Computes `y = w * x`.
pub(super) fn forward(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    let phases = Phases::new(shape);
    let planes = y
        .par_chunks_mut(shape.output_plane())
        .zip(x.par_chunks(shape.input_plane()));
    let buffers = || (vec![0.0; phases.values()], vec![0.0; phases.length]);
    planes
        .enumerate()
        .for_each_init(buffers, |(values, sum), (index, (y, x))| {
            let w = &w[index % shape.outputs * phases.taps.len()..];
            phases.divide(x, values);
            sum.fill(0.0);
            for (&tap, &w) in phases.taps.iter().zip(w) {
                add_scaled(sum, w, &values[tap..]);
            }
            for (y, sum) in y.chunks_exact_mut(shape.to[1]).zip(sum.chunks(phases.pitch)) {
                y.copy_from_slice(&sum[..shape.to[1]]);
            }
        });
}

/// Adds the gradient of the input to `dx`, which starts as zeros.
pub(super) fn input_gradient(shape: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let phases = Phases::new(shape);
    let planes = dx
        .par_chunks_mut(shape.input_plane())
        .zip(dy.par_chunks(shape.output_plane()));
    let buffers = || (vec![0.0; phases.values()], vec![0.0; phases.length]);
    planes
        .enumerate()
        .for_each_init(buffers, |(values, spread), (index, (dx, dy))| {
            let w = &w[index % shape.outputs * phases.taps.len()..];
            phases.spread(dy, spread);
            values.fill(0.0);
            for (&tap, &w) in phases.taps.iter().zip(w) {
                add_scaled(&mut values[tap..], w, spread);
            }
            phases.collect(values, dx);
        });
}

/// Adds the gradient of the weight to `dw`, which starts as zeros.
pub(super) fn weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let phases = Phases::new(shape);
    let (from, to) = (shape.input_plane(), shape.output_plane());
    let buffers = || (vec![0.0; phases.values()], vec![0.0; phases.length]);
    let channels = dw.par_chunks_mut(phases.taps.len()).enumerate();
    channels.for_each_init(buffers, |(values, spread), (channel, dw)| {
        for image in 0..shape.images {
            let plane = image * shape.inputs + channel;
            let (x, dy) = (&x[plane * from..][..from], &dy[plane * to..][..to]);
            phases.divide(x, values);
            phases.spread(dy, spread);
            for (dw, &tap) in dw.iter_mut().zip(&phases.taps) {
                *dw += dot(spread, &values[tap..]);
            }
        }
    });
}
