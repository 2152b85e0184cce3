//! The planes of a convolution's input and output in the layout of [`grouped`](super::grouped).
//!
//! A plane of the input is divided into phases: with stride `s`, phase `(a, b)` has the rows `a, a + s, …` and the
//! columns `b, b + s, …` of the padded plane. All rows of output and phases have the same pitch, so each position of the
//! kernel is one operation on two long slices. Values between the rows of the output are zeros.

use super::{columns::copy, shape::ConvShape};
use crate::ops::vectors::LANES;

/// The layout of phases and output.
pub(super) struct Phases {
    /// Values from one row to the next.
    pitch: usize,
    /// Columns of an output plane.
    width: usize,
    /// Column stride of the convolution.
    stride: usize,
    /// Values of an output plane, rounded up to whole vectors.
    pub(super) length: usize,
    /// Values of a phase, rounded up to whole vectors.
    pub(super) phase: usize,
    /// Number of phases of a plane.
    pub(super) count: usize,
    /// Values of the phases of an input plane, with room for a vector that begins at the last value.
    pub(super) input: usize,
    /// Per position of the kernel: its phase, and the index of the value in it that output 0 reads.
    pub(super) taps: Vec<(usize, usize)>,
    /// The rows that have values of the plane, see [`Phases::rows`].
    rows: Vec<(usize, usize, usize)>,
}

impl Phases {
    pub(super) fn new(shape: &ConvShape) -> Self {
        let ConvShape {
            kernel,
            stride,
            dilation,
            to,
            ..
        } = *shape;
        let extra = |axis: usize| (kernel[axis] - 1) * dilation[axis] / stride[axis];
        let pitch = to[1] + extra(1);
        let rows = to[0] + extra(0);
        let phase = (rows * pitch).next_multiple_of(LANES);
        let taps = (0..shape.taps()).map(|tap| {
            let [y, x] = [tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]];
            let index = y % stride[0] * stride[1] + x % stride[1];
            (index, y / stride[0] * pitch + x / stride[1])
        });
        let taps: Vec<_> = taps.collect();
        let count = stride[0] * stride[1];
        Self {
            pitch,
            width: to[1],
            stride: stride[1],
            length: ((to[0].max(1) - 1) * pitch + to[1]).next_multiple_of(LANES),
            phase,
            count,
            input: count * phase + LANES,
            rows: Self::rows(shape, [rows, pitch], phase),
            taps,
        }
    }

    /// Returns the largest index within a phase that output 0 reads.
    pub(super) fn reach(&self) -> usize {
        self.taps.iter().map(|&(_, offset)| offset).max().unwrap_or(0)
    }

    /// Returns the rows of the phases that have values of the plane: the indices of the first value in the phases and in
    /// the plane, and the number of values, which are `stride` apart in the plane.
    fn rows(shape: &ConvShape, [count, pitch]: [usize; 2], phase: usize) -> Vec<(usize, usize, usize)> {
        let ConvShape { stride, pads, from, .. } = *shape;
        let mut all = Vec::new();
        for index in 0..stride[0] * stride[1] {
            let [first_row, first_column] = [index / stride[1], index % stride[1]];
            // The columns `column` with `0 ≤ first_column + column · stride − left < width`.
            let start = pads[1].saturating_sub(first_column).div_ceil(stride[1]);
            let end = (from[1] + pads[1]).saturating_sub(first_column).div_ceil(stride[1]);
            let end = end.min(pitch);
            for row in 0..count {
                let y = (first_row + row * stride[0]).checked_sub(pads[0]);
                if let Some(y) = y.filter(|&y| y < from[0] && start < end) {
                    let x = first_column + start * stride[1] - pads[1];
                    all.push((index * phase + row * pitch + start, y * from[1] + x, end - start));
                }
            }
        }
        all
    }

    /// Copies a plane of the input to its phases. The values outside of it stay.
    pub(super) fn divide(&self, plane: &[f32], phases: &mut [f32]) {
        for &(to, from, count) in &self.rows {
            copy(&mut phases[to..to + count], &plane[from..], self.stride);
        }
    }

    /// Copies the phases to the plane that they are of.
    pub(super) fn collect(&self, phases: &[f32], plane: &mut [f32]) {
        for &(from, to, count) in &self.rows {
            let from = &phases[from..from + count];
            if self.stride == 1 {
                plane[to..to + count].copy_from_slice(from);
                continue;
            }
            for (to, from) in plane[to..].iter_mut().step_by(self.stride).zip(from) {
                *to = *from;
            }
        }
    }

    /// Copies the rows of an output plane to the pitch. The values between them stay.
    pub(super) fn spread(&self, plane: &[f32], to: &mut [f32]) {
        for (row, from) in plane.chunks_exact(self.width).enumerate() {
            to[row * self.pitch..][..self.width].copy_from_slice(from);
        }
    }

    /// Copies the rows of an output plane from the pitch.
    pub(super) fn gather(&self, from: &[f32], plane: &mut [f32]) {
        for (to, from) in plane.chunks_exact_mut(self.width).zip(from.chunks(self.pitch)) {
            to.copy_from_slice(&from[..self.width]);
        }
    }
}
