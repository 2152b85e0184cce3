//! Dense and grouped convolution with frozen weights: columns gathered tile by tile, multiplied by packed weights.
//!
//! A tile is a run of grid positions across the batch (so that 7×7 maps fill vectors too); its columns are gathered for at most
//! [`DEPTH`] rows at a time and stay in the second-level cache, as does the tile of the result.

use super::buffer::{Map, Output, Shared};
use super::gather::{Run, gather, split};
use super::gemm::{COLUMNS, PANEL, Packed, multiply};
use super::plan::{Phase, Plan, Tap, grid, inside};
use super::simd::{Kernel, Simd, copy, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a gathered tile. Fixed, because it decides the order of the sums.
const DEPTH: usize = 256;

/// Weights of every phase and group, packed.
#[derive(Debug)]
pub(crate) struct Weights {
    phases: Vec<Vec<Packed>>,
    groups: usize,
}

impl Weights {
    /// Weights `[O, I / groups, kh · kw]` for the forward plan.
    pub(crate) fn forward(weight: &[f32], outputs: usize, inputs: usize, groups: usize, plan: &Plan) -> Self {
        let taps = weight.len() / (outputs * inputs).max(1);
        let rows = outputs / groups;
        Self::pack(plan, groups, rows, inputs, |group, row, channel, tap| {
            weight[((group * rows + row) * inputs + channel) * taps + tap]
        })
    }

    /// The same weights, transposed for the backward plan.
    pub(crate) fn backward(weight: &[f32], outputs: usize, inputs: usize, groups: usize, plan: &Plan) -> Self {
        let taps = weight.len() / (outputs * inputs).max(1);
        let depth = outputs / groups;
        Self::pack(plan, groups, inputs, depth, |group, row, channel, tap| {
            weight[((group * depth + channel) * inputs + row) * taps + tap]
        })
    }

    fn pack(
        plan: &Plan,
        groups: usize,
        rows: usize,
        channels: usize,
        value: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Self {
        let phases = plan.phases.iter().map(|phase| {
            let taps = phase.taps.len();
            let of_group = |group| {
                Packed::new(rows, channels * taps, |row, k| {
                    value(group, row, k / taps, phase.taps[k % taps].index)
                })
            };
            (0..groups).map(of_group).collect()
        });
        Self {
            phases: phases.collect(),
            groups,
        }
    }
}

struct Job<'a> {
    source: &'a [f32],
    from: Map,
    to: Map,
    read: [usize; 2],
    write: [usize; 2],
    phase: &'a Phase,
    /// For each tap, the grid columns that it sees inside the source.
    limits: &'a [(usize, usize)],
    grid: [usize; 2],
    weights: &'a Packed,
    group: usize,
    start: usize,
    width: usize,
    panels: Range<usize>,
    target: Shared<f32>,
}

/// Computes the destination map of `plan`: `source` has the channels `groups · depth`, the result `groups · rows`.
pub(crate) fn convolve(source: &[f32], from: Map, plan: &Plan, weights: &Weights, to: Map) -> Vec<f32> {
    debug_assert_eq!(source.len(), from.len());
    let mut output = Output::new(to.len());
    let target = output.shared();
    // A 1×1 window without padding sees each plane as one long row.
    let flat = plan.read == [1, 1]
        && plan.write == [1, 1]
        && (from.h, from.w) == (to.h, to.w)
        && plan
            .phases
            .iter()
            .all(|phase| phase.taps.iter().all(|tap| tap.dy == 0 && tap.dx == 0));
    let (from, to) = if flat {
        (
            Map {
                h: 1,
                w: from.plane(),
                ..from
            },
            Map {
                h: 1,
                w: to.plane(),
                ..to
            },
        )
    } else {
        (from, to)
    };
    let rows = to.c / weights.groups;
    let positions = plan
        .phases
        .iter()
        .map(|phase| to.n * grid(to.h, phase.origin[0], plan.write[0]) * grid(to.w, phase.origin[1], plan.write[1]));
    let (width, chunks) = share(rows, positions.sum::<usize>() * weights.groups);
    let chunk = rows.div_ceil(PANEL).div_ceil(chunks).max(1);
    let limits: Vec<Vec<(usize, usize)>> = (plan.phases.iter())
        .map(|phase| {
            let columns = grid(to.w, phase.origin[1], plan.write[1]);
            let of_tap = |tap: &Tap| inside(columns, from.w, tap.dx, plan.read[1]);
            phase.taps.iter().map(of_tap).collect()
        })
        .collect();
    let mut jobs = Vec::new();
    for ((phase, packed), limits) in plan.phases.iter().zip(&weights.phases).zip(&limits) {
        let size = [
            grid(to.h, phase.origin[0], plan.write[0]),
            grid(to.w, phase.origin[1], plan.write[1]),
        ];
        let columns = to.n * size[0] * size[1];
        for (group, weights) in packed.iter().enumerate() {
            let panels = (0..weights.panels()).step_by(chunk);
            let panels = panels.map(|first| first..(first + chunk).min(weights.panels()));
            for (panels, start) in
                panels.flat_map(|panels| (0..columns).step_by(width).map(move |at| (panels.clone(), at)))
            {
                jobs.push(Job {
                    source,
                    from,
                    to,
                    read: plan.read,
                    write: plan.write,
                    phase,
                    limits,
                    grid: size,
                    weights,
                    group,
                    start,
                    width,
                    panels,
                    target,
                });
            }
        }
    }
    let scratch = || {
        (
            vec![0f32; DEPTH * width + 64],
            vec![0f32; chunk * PANEL * width],
            Vec::new(),
        )
    };
    jobs.into_par_iter()
        .for_each_init(scratch, |(columns, products, runs), job| {
            dispatch(Tile {
                job,
                columns,
                products,
                runs,
            });
        });
    // SAFETY: the jobs cover every group, phase and grid position, hence every value of the result.
    unsafe { output.finish() }
}

/// Columns of a tile, and into how many parts the rows are shared out. Tiles are wide where the caches allow it; where there are too few
/// of them to go round, long columns of weights are shared out rather than read again for narrower tiles.
fn share(rows: usize, columns: usize) -> (usize, usize) {
    let unit = COLUMNS * 16;
    let widest = if rows <= 768 { 4 } else { 2 };
    let threads = rayon::current_num_threads().max(1);
    let tiles = columns.div_ceil(unit * widest).max(1);
    if threads == 1 || tiles >= 4 * threads {
        (unit * widest, 1)
    } else if rows >= 256 {
        (unit * widest, (2 * threads).div_ceil(tiles).min(rows / 64))
    } else {
        (unit * columns.div_ceil(4 * threads).div_ceil(unit).clamp(1, widest), 1)
    }
}

struct Tile<'a> {
    job: Job<'a>,
    columns: &'a mut Vec<f32>,
    products: &'a mut Vec<f32>,
    runs: &'a mut Vec<Run>,
}

impl Kernel for Tile<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            job,
            columns,
            products,
            runs,
        } = self;
        let Job {
            from,
            to,
            phase,
            grid,
            weights,
            ..
        } = job;
        let (b, c) = (columns.as_mut_ptr(), products.as_mut_ptr());
        let used = job.width.min(to.n * grid[0] * grid[1] - job.start);
        let width = used.next_multiple_of(16);
        split(job.start, used, grid, runs);
        let mut k = 0;
        // SAFETY: the scratch buffers hold DEPTH × width and rows × width values, with room for one vector behind.
        unsafe {
            while k < weights.depth {
                let depth = DEPTH.min(weights.depth - k);
                for row in 0..depth {
                    let (channel, tap) = ((k + row) / phase.taps.len(), (k + row) % phase.taps.len());
                    let (tap, limits) = (phase.taps[tap], job.limits[tap]);
                    let channels = weights.depth / phase.taps.len();
                    let plane = job.group * channels + channel;
                    for run in runs.iter() {
                        let source = job.source.as_ptr().add((run.n * from.c + plane) * from.plane());
                        gather::<S>(
                            source,
                            from,
                            job.read,
                            tap.dy,
                            tap.dx,
                            *run,
                            limits,
                            b.add(row * width + run.at),
                        );
                    }
                }
                multiply::<S>(weights, job.panels.clone(), k, depth, b, c, width, k == 0);
                k += depth;
            }
            let first = job.panels.start * PANEL;
            for row in 0..(job.panels.end * PANEL).min(weights.rows) - first {
                for run in runs.iter() {
                    let plane = (run.n * to.c + job.group * weights.rows + first + row) * to.plane();
                    let y = phase.origin[0] + run.y * job.write[0];
                    let x = phase.origin[1] + run.x * job.write[1];
                    let target = job.target.at(plane + y * to.w + x);
                    let values = c.add(row * width + run.at);
                    if weights.depth == 0 {
                        for i in 0..run.len {
                            *target.add(i * job.write[1]) = 0.0;
                        }
                    } else if job.write[1] == 1 {
                        copy::<S>(values, target, run.len);
                    } else {
                        for i in 0..run.len {
                            *target.add(i * job.write[1]) = *values.add(i);
                        }
                    }
                }
            }
        }
    }
}
