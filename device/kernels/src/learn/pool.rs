//! The ways back through pools.

use crate::{
    dispatch::{Kernel, dispatch},
    lanes::Lanes,
    pool::{PoolKind, PoolShape},
    simd::{LANES, Level},
};

/// `dx` of one block from `dy`; of equal maxima the first one in row order gets the gradient, as in PyTorch.
pub fn pool_gradient(level: Level, shape: &PoolShape, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!(x.len(), shape.input[0] * shape.input[1] * LANES);
    assert_eq!(dy.len(), shape.output[0] * shape.output[1] * LANES);
    assert_eq!(dx.len(), x.len());
    dx.fill(0.0);
    dispatch(level, &mut PoolGradient { shape, x, dy, dx });
}

struct PoolGradient<'a> {
    shape: &'a PoolShape,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for PoolGradient<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        let shape = self.shape;
        let columns = shape.input[1];
        for y in 0..shape.output[0] {
            let (y0, y1) = shape.window(0, y);
            for x in 0..shape.output[1] {
                let (x0, x1) = shape.window(1, x);
                let dy = &self.dy[(y * shape.output[1] + x) * LANES..][..LANES];
                match shape.kind {
                    PoolKind::Max => {
                        let mut best = [f32::NEG_INFINITY; LANES];
                        let mut place = [usize::MAX; LANES];
                        for at in (y0..y1).flat_map(|iy| (x0..x1).map(move |ix| iy * columns + ix)) {
                            for lane in 0..LANES {
                                let value = self.x[at * LANES + lane];
                                if value > best[lane] || place[lane] == usize::MAX {
                                    (best[lane], place[lane]) = (value, at);
                                }
                            }
                        }
                        for lane in 0..LANES {
                            if place[lane] != usize::MAX {
                                self.dx[place[lane] * LANES + lane] += dy[lane];
                            }
                        }
                    }
                    PoolKind::Average { include_pad } => {
                        let share = 1.0 / shape.count([y, x], include_pad) as f32;
                        for at in (y0..y1).flat_map(|iy| (x0..x1).map(move |ix| iy * columns + ix)) {
                            for (dx, dy) in self.dx[at * LANES..][..LANES].iter_mut().zip(dy) {
                                *dx += share * dy;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `dx [C / 16, plane / 16, 16]` of a mean over planes of `plane` values, from `dy [C / 16, 16]`.
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
