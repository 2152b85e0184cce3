//! Pooling: maximum with the winner kept, average, and the mean of whole planes.

use super::buffer::{Map, Output, Shared};
use super::plan::inside;
use super::simd::{Kernel, Simd, dispatch};
use rayon::prelude::*;

/// No winner yet; cut to 16 bits it names no position of a window either.
const UNSET: u32 = u32::MAX;

/// A pooling window with resolved padding (top, left, bottom, right).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) pads: [usize; 4],
    pub(crate) ceil: bool,
    pub(crate) count_pad: bool,
}

impl Window {
    /// Rows and columns of the output, or `None` where the window does not fit. With `ceil`, the last window must start inside the
    /// input or its leading padding.
    pub(crate) fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let padded = size[axis] + self.pads[axis] + self.pads[axis + 2];
            let room = padded.checked_sub(self.kernel[axis])?;
            out[axis] = if self.ceil {
                room.div_ceil(self.stride[axis])
            } else {
                room / self.stride[axis]
            } + 1;
            if self.ceil && (out[axis] - 1) * self.stride[axis] >= size[axis] + self.pads[axis] {
                out[axis] -= 1;
            }
        }
        Some(out)
    }

    /// The part of window `o` along an axis that lies inside the input, and what it counts for in an average.
    fn span(&self, axis: usize, o: usize, size: usize) -> (usize, usize, usize) {
        let start = (o * self.stride[axis]) as isize - self.pads[axis] as isize;
        let end = (start + self.kernel[axis] as isize).min((size + self.pads[axis + 2]) as isize);
        let lo = start.max(0) as usize;
        let hi = (end.max(0) as usize).min(size).max(lo);
        (
            lo,
            hi,
            if self.count_pad {
                (end - start) as usize
            } else {
                hi - lo
            },
        )
    }
}

/// Maximum over windows; the winner's index within its window (`ky · kw + kx`) comes with it.
pub(crate) fn max(x: &[f32], from: Map, window: Window, to: Map) -> (Vec<f32>, Vec<u16>) {
    let mut output = Output::new(to.len());
    let target = output.shared();
    let mut winners = vec![0u16; to.len()];
    let scratch = || (vec![0f32; to.w], vec![0u32; to.w]);
    winners
        .par_chunks_mut(to.plane().max(1))
        .enumerate()
        .for_each_init(scratch, |(best, index), (plane, winners)| {
            dispatch(Max {
                x: &x[plane * from.plane()..][..from.plane()],
                from,
                window,
                to,
                best,
                index,
                winners,
                // SAFETY: the plane lies within the buffer, and is this task's own.
                y: Shared(unsafe { target.at(plane * to.plane()) }),
            });
        });
    // SAFETY: every plane has been written.
    (unsafe { output.finish() }, winners)
}

struct Max<'a> {
    x: &'a [f32],
    from: Map,
    window: Window,
    to: Map,
    best: &'a mut [f32],
    index: &'a mut [u32],
    winners: &'a mut [u16],
    y: Shared<f32>,
}

impl Kernel for Max<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            x,
            from,
            window,
            to,
            best,
            index,
            winners,
            y,
        } = self;
        for oy in 0..to.h {
            let (lo, hi, _) = window.span(0, oy, from.h);
            best.fill(f32::NEG_INFINITY);
            index.fill(UNSET);
            for iy in lo..hi {
                let row = &x[iy * from.w..][..from.w];
                let ky = iy + window.pads[0] - oy * window.stride[0];
                for kx in 0..window.kernel[1] {
                    let dx = kx as isize - window.pads[1] as isize;
                    let (start, end) = inside(to.w, from.w, dx, window.stride[1]);
                    if start >= end {
                        continue;
                    }
                    let seen = &row[(start * window.stride[1]).wrapping_add_signed(dx)..];
                    let code = (ky * window.kernel[1] + kx) as u32;
                    let slots = best[start..end].iter_mut().zip(&mut index[start..end]);
                    let take = |best: &mut f32, index: &mut u32, value: f32| {
                        // The first value wins even if it is −∞, and a NaN always does.
                        let wins = value > *best || value.is_nan() || *index == UNSET;
                        *best = if wins { value } else { *best };
                        *index = if wins { code } else { *index };
                    };
                    match window.stride[1] {
                        1 => slots
                            .zip(seen)
                            .for_each(|((best, index), &value)| take(best, index, value)),
                        2 => slots
                            .zip(seen.chunks(2))
                            .for_each(|((best, index), pair)| take(best, index, pair[0])),
                        step => slots
                            .zip(seen.iter().step_by(step))
                            .for_each(|((best, index), &v)| take(best, index, v)),
                    }
                }
            }
            // SAFETY: row `oy` of this task's plane.
            unsafe { std::ptr::copy_nonoverlapping(best.as_ptr(), y.at(oy * to.w), to.w) };
            for (winner, &index) in winners[oy * to.w..].iter_mut().zip(index.iter()) {
                *winner = index as u16;
            }
        }
    }
}

/// Input gradient of [`max`].
pub(crate) fn max_backward(dy: &[f32], winners: &[u16], from: Map, window: Window, to: Map) -> Vec<f32> {
    let mut dx = vec![0f32; from.len()];
    dx.par_chunks_mut(from.plane().max(1))
        .enumerate()
        .for_each(|(plane, dx)| {
            let at = plane * to.plane();
            for oy in 0..to.h {
                for ox in 0..to.w {
                    let i = at + oy * to.w + ox;
                    let (ky, kx) = (
                        usize::from(winners[i]) / window.kernel[1],
                        usize::from(winners[i]) % window.kernel[1],
                    );
                    let (y, x) = (oy * window.stride[0] + ky, ox * window.stride[1] + kx);
                    // A window that saw nothing but padding has no winner.
                    if let (Some(y), Some(x)) = (y.checked_sub(window.pads[0]), x.checked_sub(window.pads[1]))
                        && y < from.h
                        && x < from.w
                    {
                        dx[y * from.w + x] += dy[i];
                    }
                }
            }
        });
    dx
}

/// Mean over windows.
pub(crate) fn average(x: &[f32], from: Map, window: Window, to: Map) -> Vec<f32> {
    let mut y = vec![0f32; to.len()];
    y.par_chunks_mut(to.plane().max(1))
        .zip(x.par_chunks(from.plane().max(1)))
        .for_each(|(y, x)| {
            for oy in 0..to.h {
                let (y0, y1, rows) = window.span(0, oy, from.h);
                for ox in 0..to.w {
                    let (x0, x1, columns) = window.span(1, ox, from.w);
                    let sum: f32 = (y0..y1)
                        .map(|iy| x[iy * from.w + x0..iy * from.w + x1].iter().sum::<f32>())
                        .sum();
                    y[oy * to.w + ox] = sum / (rows * columns).max(1) as f32;
                }
            }
        });
    y
}

/// Input gradient of [`average`].
pub(crate) fn average_backward(dy: &[f32], from: Map, window: Window, to: Map) -> Vec<f32> {
    let mut dx = vec![0f32; from.len()];
    dx.par_chunks_mut(from.plane().max(1))
        .zip(dy.par_chunks(to.plane().max(1)))
        .for_each(|(dx, dy)| {
            for oy in 0..to.h {
                let (y0, y1, rows) = window.span(0, oy, from.h);
                for ox in 0..to.w {
                    let (x0, x1, columns) = window.span(1, ox, from.w);
                    let share = dy[oy * to.w + ox] / (rows * columns).max(1) as f32;
                    for iy in y0..y1 {
                        for value in &mut dx[iy * from.w + x0..iy * from.w + x1] {
                            *value += share;
                        }
                    }
                }
            }
        });
    dx
}

/// Mean of every plane.
pub(crate) fn global_average(x: &[f32], map: Map) -> Vec<f32> {
    x.par_chunks(map.plane().max(1))
        .map(|plane| dispatch(PlaneSum(plane)) / map.plane() as f32)
        .collect()
}

struct PlaneSum<'a>(&'a [f32]);

impl Kernel for PlaneSum<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let mut i = 0;
        // SAFETY: reads stay within the slice.
        unsafe {
            let mut sum = S::splat(0.0);
            while i < self.0.len() {
                sum = S::add(sum, S::load_n(self.0.as_ptr().add(i), S::LANES.min(self.0.len() - i)));
                i += S::LANES;
            }
            S::sum(sum)
        }
    }
}

/// Input gradient of [`global_average`].
pub(crate) fn global_average_backward(dy: &[f32], map: Map) -> Vec<f32> {
    let mut output = Output::new(map.len());
    let target = output.shared();
    dy.par_iter().enumerate().for_each(|(plane, &dy)| {
        let share = dy / map.plane() as f32;
        for i in 0..map.plane() {
            // SAFETY: the plane lies within the buffer, and is this task's own.
            unsafe { *target.at(plane * map.plane() + i) = share };
        }
    });
    // SAFETY: every plane has been written.
    unsafe { output.finish() }
}
