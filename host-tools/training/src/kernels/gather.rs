//! Gathering the columns of a convolution: what each tap sees along runs of output positions.

use super::buffer::Map;
use super::simd::Simd;

/// A run of grid positions of one row: image, row, first column, length, and its first column in the tile.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) n: usize,
    pub(super) y: usize,
    pub(super) x: usize,
    pub(super) len: usize,
    pub(super) at: usize,
}

/// Splits the positions `start .. start + used` into runs within rows.
pub(super) fn split(start: usize, used: usize, grid: [usize; 2], runs: &mut Vec<Run>) {
    runs.clear();
    let mut at = 0;
    while at < used {
        let position = start + at;
        let (row, x) = (position / grid[1], position % grid[1]);
        let len = (grid[1] - x).min(used - at);
        runs.push(Run {
            n: row / grid[0],
            y: row % grid[0],
            x,
            len,
            at,
        });
        at += len;
    }
}

/// Writes what one tap sees along a run; may overwrite up to a vector behind it.
#[inline(always)]
pub(super) unsafe fn gather<S: Simd>(
    plane: *const f32,
    from: Map,
    read: [usize; 2],
    dy: isize,
    dx: isize,
    run: Run,
    (lo, hi): (usize, usize),
    to: *mut f32,
) {
    let y = (run.y * read[0]) as isize + dy;
    // SAFETY: reads stay inside the plane by the tap's limits; writes as documented.
    unsafe {
        let zero = S::splat(0.0);
        if y < 0 || y >= from.h as isize {
            let mut i = 0;
            while i < run.len {
                S::store(to.add(i), zero);
                i += S::LANES;
            }
            return;
        }
        let lo = lo.clamp(run.x, run.x + run.len);
        let hi = hi.clamp(lo, run.x + run.len);
        let mut i = 0;
        while i < lo - run.x {
            S::store(to.add(i), zero);
            i += S::LANES;
        }
        let to_inside = to.add(lo - run.x);
        let row = plane.offset(y * from.w as isize + (lo * read[1]) as isize + dx);
        let len = hi - lo;
        if read[1] == 1 {
            let mut i = 0;
            while i + S::LANES <= len {
                S::store(to_inside.add(i), S::load(row.add(i)));
                i += S::LANES;
            }
            if i < len {
                S::store(to_inside.add(i), S::load_n(row.add(i), len - i));
            }
        } else {
            let mut done = 0;
            if read[1] == 2 {
                // A vector of every other value reads one value more than it takes.
                while done + S::LANES < len {
                    S::store(to_inside.add(done), S::even(row.add(2 * done)));
                    done += S::LANES;
                }
            }
            for i in done..len {
                *to_inside.add(i) = *row.add(i * read[1]);
            }
        }
        let mut i = hi - run.x;
        while i < run.len {
            S::store(to.add(i), zero);
            i += S::LANES;
        }
    }
}
