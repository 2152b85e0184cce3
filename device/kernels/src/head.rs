//! Dense layer, `weight [O, I] · x [I] + bias [O]`: forward and backward pass.

use super::simd::{Isa, Kernel, LANES, Simd, Vector, dispatch};

/// Computes `out = weight · x + bias`. Every row is summed in the same order, whatever the number of rows.
pub fn dense(isa: Isa, weight: &[f32], bias: &[f32], x: &[f32], out: &mut [f32]) {
    assert!(bias.len() == out.len() && weight.len() == out.len() * x.len());
    dispatch(isa, Dense { weight, bias, x, out });
}

struct Dense<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Dense<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let length = self.x.len();
        let (xs, x_rest) = self.x.as_chunks::<LANES>();
        let (steps, _) = xs.as_chunks::<4>();
        // Values after the last complete step of four vectors are summed individually.
        let rest = steps.len() * 4 * LANES;
        let x_rest = &self.x[length - x_rest.len() - (xs.len() - steps.len() * 4) * LANES..];
        for (index, (out, &bias)) in self.out.iter_mut().zip(self.bias).enumerate() {
            let row = &self.weight[index * length..(index + 1) * length];
            let mut sums = [s.zero(); 4];
            for (x, weight) in steps.iter().zip(row.as_chunks::<LANES>().0.as_chunks::<4>().0) {
                for part in 0..4 {
                    sums[part] = sums[part].fma(s.load(&x[part]), s.load(&weight[part]));
                }
            }
            let lanes = sums[0].add(sums[1]).add(sums[2].add(sums[3])).lanes();
            let mut sum = lanes.iter().sum::<f32>();
            for (x, weight) in x_rest.iter().zip(&row[rest..]) {
                sum += x * weight;
            }
            *out = sum + bias;
        }
    }
}

/// Computes `dx = weightᵀ · dy`, the gradient of [`dense`]'s input.
pub fn dense_gradient(isa: Isa, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!(weight.len(), dy.len() * dx.len());
    dispatch(isa, DenseGradient { weight, dy, dx });
}

struct DenseGradient<'a> {
    weight: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for DenseGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.dx.fill(0.0);
        if self.dx.is_empty() {
            return;
        }
        for (row, &dy) in self.weight.chunks_exact(self.dx.len()).zip(self.dy) {
            let (weights, weight_rest) = row.as_chunks::<LANES>();
            let (dxs, dx_rest) = self.dx.as_chunks_mut::<LANES>();
            let g = s.splat(dy);
            for (weight, dx) in weights.iter().zip(dxs) {
                s.load(dx).fma(s.load(weight), g).store(dx);
            }
            for (weight, dx) in weight_rest.iter().zip(dx_rest) {
                *dx += weight * dy;
            }
        }
    }
}
