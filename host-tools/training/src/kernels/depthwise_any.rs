//! Frozen depthwise convolution with any kernel, stride, dilation and padding: forward and input gradient.
//!
//! The plane is copied into a scratch plane with zero borders in which the columns are sorted by their residue modulo the read
//! stride, so that every tap reads consecutive values.

use super::buffer::{Map, Output, Shared};
use super::plan::{Phase, Plan, Tap, grid};
use super::simd::{Kernel, Simd, dispatch};
use rayon::prelude::*;

/// The layout of a scratch plane for one plan and one pair of maps.
struct Layout {
    /// Zero columns behind each sub-row.
    border: usize,
    /// Values of a sub-row, border included.
    sub: usize,
    /// Values of a row: one sub-row per residue.
    row: usize,
    /// Values before pixel (0, 0).
    front: usize,
    /// Values in all.
    len: usize,
    /// Values of the result scratch.
    result: usize,
}

impl Layout {
    fn new(plan: &Plan, from: Map, to: Map) -> Self {
        let read = plan.read;
        let (mut border, mut top, mut bottom, mut result) = (0isize, 0isize, 0isize, 0);
        let columns = from.w.div_ceil(read[1]) as isize;
        for phase in &plan.phases {
            let (gh, gw) = (
                grid(to.h, phase.origin[0], plan.write[0]),
                grid(to.w, phase.origin[1], plan.write[1]),
            );
            result = result.max(gh * gw.max(columns as usize));
            for tap in &phase.taps {
                let q = tap.dx.div_euclid(read[1] as isize);
                border = border.max(-q).max(gw as isize + q - columns);
                top = top.max(-tap.dy);
                bottom = bottom.max((gh as isize - 1) * read[0] as isize + tap.dy - (from.h as isize - 1));
                // A flat pass runs over full rows: the border must also separate rows that are longer than the grid.
                border = border.max(q);
            }
        }
        let border = border as usize;
        let sub = columns as usize + border;
        let row = sub * read[1];
        let front = top as usize * row + border;
        let rows = from.h + bottom as usize + 1;
        let longest = to.h.max(from.h) * row;
        Self {
            border,
            sub,
            row,
            front,
            len: front + rows.max(to.h) * row + border + 128,
            result: result.max(longest) + 128,
        }
    }

    /// What a tap adds to the position.
    fn offset(&self, tap: &Tap, read: usize) -> isize {
        let (q, residue) = (tap.dx.div_euclid(read as isize), tap.dx.rem_euclid(read as isize));
        tap.dy * self.row as isize + residue * self.sub as isize + q
    }
}

/// Computes the destination map of `plan` channel by channel; `weight` is `[C, kh · kw]`.
pub(crate) fn convolve(source: &[f32], from: Map, plan: &Plan, weight: &[f32], to: Map) -> Vec<f32> {
    let layout = Layout::new(plan, from, to);
    let size = weight.len() / from.c.max(1);
    let mut output = Output::new(to.len());
    let target = output.shared();
    let scratch = || (vec![0f32; layout.len], vec![0f32; layout.result], Vec::new());
    (0..from.n * from.c)
        .into_par_iter()
        .with_min_len(4)
        .for_each_init(scratch, |(padded, result, taps), plane| {
            dispatch(Plane {
                source: &source[plane * from.plane()..][..from.plane()],
                weight: &weight[plane % from.c * size..][..size],
                layout: &layout,
                plan,
                from,
                to,
                padded,
                result,
                taps,
                // SAFETY: the plane lies within the buffer, and is this task's own.
                target: Shared(unsafe { target.at(plane * to.plane()) }),
            });
        });
    // SAFETY: the phases cover every position of every plane.
    unsafe { output.finish() }
}

struct Plane<'a> {
    source: &'a [f32],
    weight: &'a [f32],
    layout: &'a Layout,
    plan: &'a Plan,
    from: Map,
    to: Map,
    padded: &'a mut Vec<f32>,
    result: &'a mut Vec<f32>,
    taps: &'a mut Vec<(isize, f32)>,
    target: Shared<f32>,
}

impl Kernel for Plane<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            source,
            weight,
            layout,
            plan,
            from,
            to,
            padded,
            result,
            taps,
            target,
        } = self;
        let read = plan.read[1];
        let start = layout.front;
        for y in 0..from.h {
            let row = &source[y * from.w..][..from.w];
            let padded = &mut padded[start + y * layout.row..];
            if read == 1 {
                padded[..from.w].copy_from_slice(row);
            } else {
                for residue in 0..read.min(from.w) {
                    for (to, &from) in padded[residue * layout.sub..]
                        .iter_mut()
                        .zip(row[residue..].iter().step_by(read))
                    {
                        *to = from;
                    }
                }
            }
        }
        for phase in &plan.phases {
            let size = [
                grid(to.h, phase.origin[0], plan.write[0]),
                grid(to.w, phase.origin[1], plan.write[1]),
            ];
            taps.clear();
            taps.extend(
                phase
                    .taps
                    .iter()
                    .map(|tap| (layout.offset(tap, read), weight[tap.index])),
            );
            let flat = plan.read == [1, 1] && size[1] <= layout.row;
            // SAFETY: the layout leaves room for every tap of every position and for a run of four vectors behind the last.
            unsafe {
                let (padded, result) = (padded.as_ptr().add(start), result.as_mut_ptr());
                if flat {
                    line::<S>(padded, taps, result, size[0] * layout.row);
                } else {
                    for y in 0..size[0] {
                        line::<S>(
                            padded.add(y * plan.read[0] * layout.row),
                            taps,
                            result.add(y * size[1]),
                            size[1],
                        );
                    }
                }
                scatter(
                    result,
                    if flat { layout.row } else { size[1] },
                    phase,
                    size,
                    plan.write,
                    to,
                    target,
                );
            }
        }
        debug_assert!(layout.border <= layout.sub);
    }
}

/// `to[i] = Σ weight · from[i + offset]` for `len` positions, overrunning by less than four vectors.
#[inline(always)]
unsafe fn line<S: Simd>(from: *const f32, taps: &[(isize, f32)], to: *mut f32, len: usize) {
    const UNROLL: usize = 4;
    let mut p = 0;
    // SAFETY: the caller leaves the room.
    unsafe {
        while p < len {
            if len - p > S::LANES {
                let mut acc = [S::splat(0.0); UNROLL];
                for &(offset, weight) in taps {
                    let (w, from) = (S::splat(weight), from.offset(p as isize + offset));
                    for (i, acc) in acc.iter_mut().enumerate() {
                        *acc = S::fma(S::load(from.add(i * S::LANES)), w, *acc);
                    }
                }
                for (i, &acc) in acc.iter().enumerate() {
                    S::store(to.add(p + i * S::LANES), acc);
                }
                p += UNROLL * S::LANES;
            } else {
                let mut acc = S::splat(0.0);
                for &(offset, weight) in taps {
                    acc = S::fma(S::load(from.offset(p as isize + offset)), S::splat(weight), acc);
                }
                S::store(to.add(p), acc);
                p += S::LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn scatter(
    result: *const f32,
    stride: usize,
    phase: &Phase,
    size: [usize; 2],
    write: [usize; 2],
    to: Map,
    target: Shared<f32>,
) {
    for y in 0..size[0] {
        // SAFETY: grid positions lie within the destination plane.
        unsafe {
            let from = result.add(y * stride);
            let to = target.at((phase.origin[0] + y * write[0]) * to.w + phase.origin[1]);
            if write[1] == 1 {
                std::ptr::copy_nonoverlapping(from, to, size[1]);
            } else {
                for x in 0..size[1] {
                    *to.add(x * write[1]) = *from.add(x);
                }
            }
        }
    }
}
