//! Gradients of pools.

use crate::{
    pool::{PoolKind, PoolShape},
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// Computes `dx` of one block from `dy`. Of equal maxima, the first one in row order gets the gradient, as in PyTorch.
pub fn pool_gradient(isa: Isa, shape: &PoolShape, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!(x.len(), shape.input[0] * shape.input[1] * LANES);
    assert_eq!(dy.len(), shape.output[0] * shape.output[1] * LANES);
    assert_eq!(dx.len(), x.len());
    dx.fill(0.0);
    dispatch(isa, PoolGradient { shape, x, dy, dx });
}

struct PoolGradient<'a> {
    shape: &'a PoolShape,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for PoolGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let shape = self.shape;
        let width = shape.input[1];
        let (plane, dx) = (vectors(self.x), vectors_mut(self.dx));
        for (y, row) in vectors(self.dy).chunks_exact(shape.output[1]).enumerate() {
            let rows = shape.window(0, y);
            for (x, dy) in row.iter().enumerate() {
                let columns = shape.window(1, x);
                let places = rows
                    .places()
                    .flat_map(|iy| columns.places().map(move |ix| iy * width + ix));
                match shape.kind {
                    PoolKind::Max => {
                        let mut best = [f32::NEG_INFINITY; LANES];
                        let mut place = [usize::MAX; LANES];
                        for at in places {
                            for (lane, &value) in plane[at].iter().enumerate() {
                                if value > best[lane] || place[lane] == usize::MAX {
                                    (best[lane], place[lane]) = (value, at);
                                }
                            }
                        }
                        for lane in 0..LANES {
                            if place[lane] != usize::MAX {
                                dx[place[lane]][lane] += dy[lane];
                            }
                        }
                    }
                    PoolKind::Average { include_pad } => {
                        let share = s.splat(1.0 / shape.count([y, x], include_pad) as f32);
                        let share = share.mul(s.load(dy));
                        for at in places {
                            s.load(&dx[at]).add(share).store(&mut dx[at]);
                        }
                    }
                }
            }
        }
    }
}

/// Computes `dx [C / 16, plane / 16, 16]` of a mean over planes of `plane` values, from `dy [C / 16, 16]`.
pub fn global_average_gradient(dy: &[f32], plane: usize, dx: &mut [f32]) {
    assert_eq!(dx.len() / plane * LANES, dy.len());
    let share = LANES as f32 / plane as f32;
    for (dy, dx) in dy.chunks_exact(LANES).zip(dx.chunks_exact_mut(plane)) {
        for pixel in dx.chunks_exact_mut(LANES) {
            for (dx, dy) in pixel.iter_mut().zip(dy) {
                *dx = share * dy;
            }
        }
    }
}
