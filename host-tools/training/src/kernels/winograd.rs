//! Winograd convolution F(4×4, 3×3) for frozen 3×3 kernels with stride 1 (Lavin and Gray, arXiv 1509.09308).
//!
//! A tile of 4×4 results needs 6×6 inputs; in the transformed domain the convolution is 36 independent matrix products over the
//! channels, with a quarter of the multiplications. Kernels are frozen, so they are transformed once, in double precision.
//! Tiles of the whole batch stand side by side as columns, a bounded number at a time.

use super::buffer::{Map, Output, Shared};
use super::gemm::{COLUMNS, PANEL, Packed, multiply};
use super::plan::Window;
use super::simd::{Kernel, Simd, dispatch};
use super::winograd_tile::{output_tile, transform_input, transform_kernel};
use rayon::prelude::*;

/// Results along a side of a tile.
pub(super) const TILE: usize = 4;

/// Transformed values of a tile.
pub(super) const POINTS: usize = 36;

/// Columns of a block: what one pass of the micro-kernel takes.
const BLOCK: usize = COLUMNS * 16;

/// Values between the matrices of two points: without them, all 36 would fall on the same lines of the first-level cache.
const STAGGER: usize = 16;

/// Transformed kernels, one matrix `[O, I]` for each point.
#[derive(Debug)]
pub(crate) struct Weights(Vec<Packed>);

/// Whether a convolution is worth transforming: enough channels to pay for the transforms, transformed kernels (four times the
/// size) of at most 18 MiB, and a result (of the forward pass) that tiles do not overhang by more than half.
pub(crate) fn pays(window: &Window, outputs: usize, inputs: usize, groups: usize, result: [usize; 2]) -> bool {
    let plain = window.kernel == [3, 3] && window.stride == [1, 1] && window.dilation == [1, 1] && groups == 1;
    let covered = result[0].next_multiple_of(TILE) * result[1].next_multiple_of(TILE);
    let fits = 2 * covered <= 3 * result[0] * result[1];
    plain && fits && outputs.min(inputs) >= 16 && outputs * inputs <= 1 << 17
}

impl Weights {
    /// Kernels `[O, I, 3, 3]` for the forward pass.
    pub(crate) fn forward(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        Self::new(outputs, inputs, |o, i, tap| weight[(o * inputs + i) * 9 + tap])
    }

    /// The same kernels for the input gradient: transposed and turned by half a turn.
    pub(crate) fn backward(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        Self::new(inputs, outputs, |i, o, tap| weight[(o * inputs + i) * 9 + 8 - tap])
    }

    fn new(rows: usize, depth: usize, value: impl Fn(usize, usize, usize) -> f32 + Sync) -> Self {
        let transformed: Vec<[f32; POINTS]> = (0..rows * depth)
            .into_par_iter()
            .map(|at| transform_kernel(std::array::from_fn(|tap| f64::from(value(at / depth, at % depth, tap)))))
            .collect();
        let of_point = |point| Packed::new(rows, depth, |row, k| transformed[row * depth + k][point]);
        Self((0..POINTS).into_par_iter().map(of_point).collect())
    }
}

/// Tiles of one row of tiles: image, row, first column, number, and their first column among all.
#[derive(Clone, Copy)]
struct Run {
    n: usize,
    y: usize,
    x: usize,
    len: usize,
    at: usize,
}

/// Tiles `start .. start + used` of a grid of `rows × columns` tiles per image, as runs that do not cross a block of `width`.
fn split(start: usize, used: usize, rows: usize, columns: usize, width: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < used {
        let (row, x) = ((start + at) / columns, (start + at) % columns);
        let len = (columns - x).min(used - at).min(width - at % width);
        runs.push(Run {
            n: row / rows,
            y: row % rows,
            x,
            len,
            at,
        });
        at += len;
    }
    runs
}

/// `to` from `source`: a 3×3 convolution with `pads` (top, left) zeros before the source; rows and columns behind it read as zero.
pub(crate) fn convolve(source: &[f32], from: Map, pads: [isize; 2], weights: &Weights, to: Map) -> Vec<f32> {
    let mut output = Output::new(to.len());
    let target = output.shared();
    let (rows, columns) = (to.h.div_ceil(TILE), to.w.div_ceil(TILE));
    let tiles = to.n * rows * columns;
    let threads = rayon::current_num_threads().max(1);
    let panels = weights.0[0].panels();
    // Equal blocks, and at least one.
    let blocks = tiles.div_ceil(BLOCK).max(1);
    let width = tiles.div_ceil(blocks).next_multiple_of(16);
    let layout = Layout {
        channels: from.c,
        width,
    };
    let row = || vec![0f32; TILE * 16 + 64];
    if threads == 1 || blocks >= 2 * threads {
        // Each task takes a block from input to output; everything in between stays in its caches.
        let scratch = || {
            (
                vec![0f32; layout.len()],
                vec![0f32; POINTS * (panels * PANEL * width + STAGGER)],
                row(),
            )
        };
        (0..blocks)
            .into_par_iter()
            .for_each_init(scratch, |(transformed, products, row), block| {
                let start = block * width;
                if start < tiles {
                    let runs = split(start, width.min(tiles - start), rows, columns, width);
                    let values = Shared(transformed.as_mut_ptr());
                    for channel in 0..from.c {
                        dispatch(Input {
                            source,
                            from,
                            pads,
                            runs: &runs,
                            channel,
                            layout,
                            row,
                            values,
                        });
                    }
                    let panels = 0..panels;
                    dispatch(Product {
                        transformed,
                        layout,
                        block: 0,
                        runs: &runs,
                        panels,
                        weights,
                        products,
                        row,
                        to,
                        target,
                    });
                }
            });
    } else {
        // Too few blocks to go round: all channels are transformed first, then the output channels are shared out.
        let chunk = panels.div_ceil((4 * threads).div_ceil(blocks)).max(1);
        let runs = split(0, tiles, rows, columns, width);
        let mut transformed = vec![0f32; blocks * layout.len()];
        let values = Shared(transformed.as_mut_ptr());
        (0..from.c)
            .into_par_iter()
            .with_min_len(4)
            .for_each_init(row, |row, channel| {
                dispatch(Input {
                    source,
                    from,
                    pads,
                    runs: &runs,
                    channel,
                    layout,
                    row,
                    values,
                });
            });
        let scratch = || (vec![0f32; POINTS * (chunk * PANEL * width + STAGGER)], row());
        (0..blocks * panels.div_ceil(chunk))
            .into_par_iter()
            .for_each_init(scratch, |(products, row), task| {
                let (block, first) = (task % blocks, task / blocks * chunk);
                let runs: Vec<Run> = runs.iter().filter(|run| run.at / width == block).copied().collect();
                let (transformed, panels) = (&transformed, first..(first + chunk).min(panels));
                dispatch(Product {
                    transformed,
                    layout,
                    block,
                    runs: &runs,
                    panels,
                    weights,
                    products,
                    row,
                    to,
                    target,
                });
            });
    }
    // SAFETY: the tiles cover every plane.
    unsafe { output.finish() }
}

/// Where transformed values stand: block, then point, then channel, then column within the block.
#[derive(Clone, Copy)]
struct Layout {
    channels: usize,
    width: usize,
}

impl Layout {
    /// Values of a block.
    fn len(self) -> usize {
        POINTS * (self.channels * self.width + STAGGER)
    }

    #[inline(always)]
    fn at(self, block: usize, point: usize, channel: usize) -> usize {
        (block * POINTS + point) * (self.channels * self.width + STAGGER) + channel * self.width
    }
}

/// Transforms one channel of the runs.
struct Input<'a> {
    source: &'a [f32],
    from: Map,
    pads: [isize; 2],
    runs: &'a [Run],
    channel: usize,
    layout: Layout,
    row: &'a mut Vec<f32>,
    values: Shared<f32>,
}

impl Kernel for Input<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            source,
            from,
            pads,
            runs,
            channel,
            layout,
            row,
            values,
        } = self;
        for run in runs {
            let plane = &source[(run.n * from.c + channel) * from.plane()..][..from.plane()];
            let block = run.at / layout.width;
            let column = run.at % layout.width;
            let mut done = 0;
            while done < run.len {
                let lanes = (run.len - done).min(S::LANES);
                // SAFETY: `row` holds 4 · lanes + 2 values and two vectors behind; columns stay within the block.
                unsafe {
                    let mut d = [[S::splat(0.0); 6]; 6];
                    for (i, d) in d.iter_mut().enumerate() {
                        let y = (run.y * TILE + i) as isize - pads[0];
                        if y < 0 || y >= from.h as isize {
                            continue;
                        }
                        let x = ((run.x + done) * TILE) as isize - pads[1];
                        let line = &plane[y as usize * from.w..][..from.w];
                        let wanted = TILE * lanes + 2;
                        let room = TILE * S::LANES + TILE;
                        let inside = x >= 0 && x as usize + room <= from.w;
                        let p = if inside {
                            line.as_ptr().add(x as usize)
                        } else {
                            let skip = (-x).max(0) as usize;
                            let first = x.max(0) as usize;
                            let len = from.w.saturating_sub(first).min(wanted.saturating_sub(skip));
                            let row = row.as_mut_ptr();
                            let mut j = 0;
                            while j < room {
                                S::store(row.add(j), S::splat(0.0));
                                j += S::LANES;
                            }
                            let mut j = 0;
                            while j < len {
                                let n = S::LANES.min(len - j);
                                S::store_n(row.add(skip + j), S::load_n(line.as_ptr().add(first + j), n), n);
                                j += S::LANES;
                            }
                            row.cast_const()
                        };
                        let near = S::deinterleave(p);
                        let far = S::deinterleave(p.add(TILE));
                        *d = [near[0], near[1], near[2], near[3], far[0], far[1]];
                    }
                    for d in &mut d {
                        *d = transform_input::<S>(*d);
                    }
                    #[expect(
                        clippy::needless_range_loop,
                        reason = "columns of an array of rows, kept in registers"
                    )]
                    for j in 0..6 {
                        let t = transform_input::<S>([d[0][j], d[1][j], d[2][j], d[3][j], d[4][j], d[5][j]]);
                        for (i, &t) in t.iter().enumerate() {
                            S::store_n(
                                values.at(layout.at(block, i * 6 + j, channel) + column + done),
                                t,
                                lanes,
                            );
                        }
                    }
                }
                done += lanes;
            }
        }
    }
}

/// Multiplies one block with some panels of the kernels and transforms the products back.
struct Product<'a> {
    transformed: &'a Vec<f32>,
    layout: Layout,
    block: usize,
    runs: &'a [Run],
    panels: std::ops::Range<usize>,
    weights: &'a Weights,
    products: &'a mut Vec<f32>,
    row: &'a mut Vec<f32>,
    to: Map,
    target: Shared<f32>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            transformed,
            layout,
            block,
            runs,
            panels,
            weights,
            products,
            row,
            to,
            target,
        } = self;
        let (depth, width) = (layout.channels, layout.width);
        let products = products.as_mut_ptr();
        let rows = panels.start * PANEL..(panels.end * PANEL).min(weights.0[0].rows);
        // SAFETY: the block's columns and the products of these panels lie within their buffers; results within their planes.
        unsafe {
            let step = panels.len() * PANEL * width + STAGGER;
            for (point, weights) in weights.0.iter().enumerate() {
                let b = transformed.as_ptr().add(layout.at(block, point, 0));
                multiply::<S>(
                    weights,
                    panels.clone(),
                    0,
                    depth,
                    b,
                    products.add(point * step),
                    width,
                    true,
                );
            }
            for (r, channel) in rows.enumerate() {
                for run in runs {
                    let plane = target.at((run.n * to.c + channel) * to.plane());
                    let column = run.at % width;
                    let mut done = 0;
                    while done < run.len {
                        let lanes = (run.len - done).min(S::LANES);
                        let from = products.add(r * width + column + done).cast_const();
                        output_tile::<S>(from, step, run.y * TILE, (run.x + done) * TILE, lanes, row, plane, to);
                        done += lanes;
                    }
                }
            }
        }
    }
}
