//! The dense layer: `weight [O, I] · x [I] + bias [O]`.

use super::{
    dispatch::{Kernel, dispatch},
    lanes::Lanes,
    simd::{LANES, Level},
};

/// `out = weight · x + bias`. Every row is summed in the same order, whatever the number of rows.
pub fn dense(level: Level, weight: &[f32], bias: &[f32], x: &[f32], out: &mut [f32]) {
    assert!(bias.len() == out.len() && weight.len() == out.len() * x.len());
    dispatch(level, &mut Dense { weight, bias, x, out });
}

struct Dense<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Dense<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        const STEP: usize = 4 * LANES;
        let length = self.x.len();
        for (index, (out, &bias)) in self.out.iter_mut().zip(self.bias).enumerate() {
            let row = &self.weight[index * length..(index + 1) * length];
            // SAFETY: both slices have `length` values and only whole steps are read.
            let mut sum = unsafe {
                let mut sums = [V::splat(0.0); 4];
                for at in (0..length / STEP * STEP).step_by(STEP) {
                    for part in 0..4 {
                        let offset = at + part * LANES;
                        let x = V::load(self.x.as_ptr().add(offset));
                        sums[part] = sums[part].fma(x, V::load(row.as_ptr().add(offset)));
                    }
                }
                let mut lanes = [0.0f32; LANES];
                sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(lanes.as_mut_ptr());
                lanes.iter().sum::<f32>()
            };
            for at in length / STEP * STEP..length {
                sum += self.x[at] * row[at];
            }
            *out = sum + bias;
        }
    }
}
