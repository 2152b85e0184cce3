//! Convolutions that mix channels: matrix products with the columns of a tile of pixels.

use std::ops::Range;

use candle_core::Result;
use rayon::prelude::*;

use super::{
    columns::{Blocks, Tile, gather, gather_planes, scatter, scatter_planes},
    shape::ConvShape,
};
use crate::ops::matrix::{Product, View, multiply};

/// Values of all partial sums of a weight's gradient: more sums are more parallel, but have to be added.
const PARTIAL_SUMS: usize = 1 << 20;
/// Largest number of partial sums.
const MOST_SUMS: usize = 16;

/// The part of the products of a block that belongs to one group and tile. All maps are those of the block.
struct Part<'a> {
    shape: &'a ConvShape,
    tile: Tile,
    inputs: Range<usize>,
    outputs: Range<usize>,
    /// Rows of the matrix of columns: input channels × positions of the kernel.
    height: usize,
    pixels: usize,
    /// Whether several threads compute a product.
    threads: bool,
}

/// Buffers for matrices that are no views of maps.
#[derive(Default)]
struct Buffers {
    columns: Vec<f32>,
    rows: Vec<f32>,
}

impl Part<'_> {
    fn product(&self, add: bool) -> Product {
        Product {
            add,
            threads: self.threads,
        }
    }

    /// Returns the part's weights: where they start, and their view.
    fn weights(&self) -> (usize, View) {
        let view = View::rows(self.outputs.len(), self.height, self.height);
        (self.outputs.start * self.height, view)
    }

    /// Returns the view of `range` of the `channels` of a map with planes of the output's size, if it is a matrix.
    fn planes(&self, channels: usize, range: &Range<usize>) -> Option<(usize, View)> {
        let (plane, offset) = (self.shape.output_plane(), self.tile.offset(self.shape));
        match self.tile.images {
            1 => Some((
                range.start * plane + offset,
                View::rows(range.len(), self.pixels, plane),
            )),
            // Vectors: each image is a column.
            _ if plane == 1 => Some((
                range.start,
                View {
                    rows: range.len(),
                    columns: self.tile.images,
                    row_stride: 1,
                    column_stride: channels,
                },
            )),
            _ => None,
        }
    }

    /// Returns `range` of the `channels` of a map as rows of pixels: a view, or copied to `buffer`.
    fn pixel_rows<'a>(
        &self,
        map: &'a [f32],
        channels: usize,
        range: &Range<usize>,
        buffer: &'a mut Vec<f32>,
    ) -> (&'a [f32], View) {
        if let Some((start, view)) = self.planes(channels, range) {
            return (&map[start..], view);
        }
        buffer.resize(range.len() * self.pixels, 0.0);
        gather_planes(self.shape, map, channels, range.clone(), &self.tile, buffer);
        (buffer, View::rows(range.len(), self.pixels, self.pixels))
    }

    /// Returns the matrix of columns.
    fn columns<'a>(&self, x: &'a [f32], buffer: &'a mut Vec<f32>) -> (&'a [f32], View) {
        let shape = self.shape;
        if shape.is_pointwise() {
            return self.pixel_rows(x, shape.inputs, &self.inputs, buffer);
        }
        buffer.resize(self.height * self.pixels, 0.0);
        gather(shape, x, self.inputs.start, &self.tile, buffer, self.threads);
        (buffer, View::rows(self.height, self.pixels, self.pixels))
    }

    /// Writes a product to `range` of the `channels` of a map with planes of the output's size.
    fn write_planes(
        &self,
        a: (&[f32], View),
        b: (&[f32], View),
        (map, channels, range): (&mut [f32], usize, &Range<usize>),
        buffer: &mut Vec<f32>,
    ) -> Result<()> {
        if let Some((start, view)) = self.planes(channels, range) {
            return multiply(a, b, (&mut map[start..], view), self.product(false));
        }
        buffer.resize(range.len() * self.pixels, 0.0);
        let view = View::rows(range.len(), self.pixels, self.pixels);
        multiply(a, b, (buffer, view), self.product(false))?;
        scatter_planes(self.shape, buffer, channels, range.clone(), &self.tile, map);
        Ok(())
    }
}

/// The blocks of a convolution.
struct Plan<'a> {
    shape: &'a ConvShape,
    height: usize,
    blocks: Blocks,
    /// Whether several threads compute a product, because there are fewer blocks than threads.
    threads: bool,
}

impl<'a> Plan<'a> {
    fn new(shape: &'a ConvShape) -> Self {
        let height = shape.inputs / shape.groups * shape.taps();
        let blocks = Blocks::new(shape, height);
        Self {
            shape,
            height,
            blocks,
            threads: shape.images.div_ceil(blocks.images) < rayon::current_num_threads(),
        }
    }

    /// Returns the number of values of a block's input map.
    fn input(&self) -> usize {
        (self.blocks.images * self.shape.inputs * self.shape.input_plane()).max(1)
    }

    /// Returns the number of values of a block's output map.
    fn output(&self) -> usize {
        (self.blocks.images * self.shape.outputs * self.shape.output_plane()).max(1)
    }

    /// Calls `each` for every group and tile of a block whose output map has `values` values, in a fixed order.
    fn parts(&self, values: usize, mut each: impl FnMut(&Part<'_>) -> Result<()>) -> Result<()> {
        let shape = self.shape;
        let images = values / (shape.outputs * shape.output_plane()).max(1);
        let (inputs, outputs) = (shape.inputs / shape.groups, shape.outputs / shape.groups);
        for group in 0..shape.groups {
            for tile in self.blocks.tiles(shape, images) {
                each(&Part {
                    shape,
                    inputs: group * inputs..(group + 1) * inputs,
                    outputs: group * outputs..(group + 1) * outputs,
                    height: self.height,
                    pixels: tile.pixels(shape),
                    tile,
                    threads: self.threads,
                })?;
            }
        }
        Ok(())
    }
}

/// Computes `y = w * x`.
pub(super) fn forward(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) -> Result<()> {
    let plan = Plan::new(shape);
    let blocks = y.par_chunks_mut(plan.output()).zip(x.par_chunks(plan.input()));
    blocks.try_for_each_init(Buffers::default, |buffers, (y, x)| {
        plan.parts(y.len(), |part| {
            let columns = part.columns(x, &mut buffers.columns);
            let (start, view) = part.weights();
            let y = (&mut *y, shape.outputs, &part.outputs);
            part.write_planes((&w[start..], view), columns, y, &mut buffers.rows)
        })
    })
}

/// Adds the gradient of the input to `dx`, which starts as zeros.
pub(super) fn input_gradient(shape: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) -> Result<()> {
    let plan = Plan::new(shape);
    let blocks = dx.par_chunks_mut(plan.input()).zip(dy.par_chunks(plan.output()));
    blocks.try_for_each_init(Buffers::default, |Buffers { columns, rows }, (dx, dy)| {
        plan.parts(dy.len(), |part| {
            let dy = part.pixel_rows(dy, shape.outputs, &part.outputs, rows);
            let (start, view) = part.weights();
            let w = (&w[start..], view.transposed());
            if shape.is_pointwise() {
                return part.write_planes(w, dy, (&mut *dx, shape.inputs, &part.inputs), columns);
            }
            columns.resize(part.height * part.pixels, 0.0);
            let view = View::rows(part.height, part.pixels, part.pixels);
            multiply(w, dy, (&mut *columns, view), part.product(false))?;
            scatter(shape, columns, part.inputs.clone(), &part.tile, dx, part.threads);
            Ok(())
        })
    })
}

/// Adds the gradient of the weight to `dw`, which starts as zeros.
pub(super) fn weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) -> Result<()> {
    let mut plan = Plan::new(shape);
    let blocks: Vec<_> = x.chunks(plan.input()).zip(dy.chunks(plan.output())).collect();
    // The order of the sums depends on the sizes alone.
    let sums = (PARTIAL_SUMS / dw.len().max(1))
        .clamp(1, MOST_SUMS)
        .min(blocks.len().max(1));
    plan.threads = sums < rayon::current_num_threads();
    let add = |(x, dy): (&[f32], &[f32]), dw: &mut [f32], Buffers { columns, rows }: &mut Buffers| {
        plan.parts(dy.len(), |part| {
            let (columns, view) = part.columns(x, columns);
            let dy = part.pixel_rows(dy, shape.outputs, &part.outputs, rows);
            let (start, weights) = part.weights();
            multiply(
                dy,
                (columns, view.transposed()),
                (&mut dw[start..], weights),
                part.product(true),
            )
        })
    };
    let parts = blocks.par_chunks(blocks.len().div_ceil(sums).max(1)).map(|blocks| {
        let (mut sum, mut buffers) = (vec![0.0; dw.len()], Buffers::default());
        blocks
            .iter()
            .try_for_each(|&block| add(block, &mut sum, &mut buffers))?;
        Ok(sum)
    });
    for part in parts.collect::<Result<Vec<_>>>()? {
        for (sum, value) in dw.iter_mut().zip(part) {
            *sum += value;
        }
    }
    Ok(())
}
