//! Gradients of cropping, padding and resizing.

use crate::{
    pixels::PixelMap,
    simd::{Isa, Kernel, Simd, Vector, dispatch, vectors, vectors_mut},
};

impl PixelMap {
    /// Computes all of `dx` from `dy`, the gradient of [`PixelMap::run`]'s result. Every input pixel gets the weighted
    /// sum of the gradients of the outputs that read it.
    pub fn gradient(&self, isa: Isa, dy: &[f32], dx: &mut [f32]) {
        self.check(dx.len(), dy.len());
        dx.fill(0.0);
        dispatch(isa, Gradient { map: self, dy, dx });
    }
}

struct Gradient<'a> {
    map: &'a PixelMap,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PixelMap {
            input, rows, columns, ..
        } = self.map;
        let planes = vectors_mut(self.dx).chunks_exact_mut(input[0] * input[1]);
        let dys = vectors(self.dy).chunks_exact(rows.len() * columns.len());
        for (plane, dy) in planes.zip(dys) {
            for (dy, row) in dy.chunks_exact(columns.len()).zip(rows) {
                let Some(row) = row else { continue };
                for (dy, column) in dy.iter().zip(columns) {
                    let Some(column) = column else { continue };
                    let g = s.load(dy);
                    if !self.map.weighted {
                        let to = &mut plane[row.low * input[1] + column.low];
                        s.load(to).add(g).store(to);
                        continue;
                    }
                    for (y, down) in [(row.low, 1.0 - row.weight), (row.high, row.weight)] {
                        for (x, across) in [(column.low, 1.0 - column.weight), (column.high, column.weight)] {
                            let to = &mut plane[y * input[1] + x];
                            s.load(to).fma(g, s.splat(down * across)).store(to);
                        }
                    }
                }
            }
        }
    }
}
