//! Rounding of f32 values to a grid of 256 values.

use super::simd::{Isa, Kernel, LANES, Simd, Vector, dispatch};

/// Numbers of this size have no fraction in f32, so that adding it rounds to an integer, with ties to even.
const ROUNDING: f32 = 12_582_912.0;

/// Replaces every value by the nearest `(q − zero_point) · scale` with `q` in 0…255; ties are rounded to even `q − zero_point`
/// (ONNX `QuantizeLinear` followed by `DequantizeLinear`, opset 13). NaN stays NaN.
pub fn round_to_grid(isa: Isa, values: &mut [f32], scale: f32, zero_point: u8) {
    dispatch(
        isa,
        RoundToGrid {
            values,
            scale,
            zero_point,
        },
    );
}

struct RoundToGrid<'a> {
    values: &'a mut [f32],
    scale: f32,
    zero_point: u8,
}

impl Kernel for RoundToGrid<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zero_point = f32::from(self.zero_point);
        let (low, high) = (s.splat(-zero_point), s.splat(255.0 - zero_point));
        let (scale, rounding) = (s.splat(self.scale), s.splat(ROUNDING));
        let round = |value: S::Vector| {
            let steps = value.div(scale).clamp(low, high);
            steps.add(rounding).sub(rounding).mul(scale)
        };
        let (vectors, rest) = self.values.as_chunks_mut::<LANES>();
        for vector in vectors {
            round(s.load(vector)).store(vector);
        }
        if !rest.is_empty() {
            let mut last = [0.0; LANES];
            last[..rest.len()].copy_from_slice(rest);
            round(s.load(&last)).store(&mut last);
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use clr_onnx::Quantisation;

    use super::*;
    use crate::tests::Random;

    #[test]
    fn values_are_rounded_as_the_definition_rounds_them_in_every_instruction_set() {
        let mut random = Random(3);
        for scale in [1.0 / 128.0, 0.023_528, 0.5] {
            for zero_point in [0, 127, 255] {
                let grid = Quantisation { scale, zero_point };
                let mut values: Vec<f32> = random.vector(101).iter().map(|value| value * 200.0 * scale).collect();
                values.extend([0.5, 1.5, -0.5, -2.5].map(|ties| ties * scale));
                values.extend([f32::INFINITY, f32::NEG_INFINITY, 1e30, -0.0]);
                let expected: Vec<f32> = values.iter().map(|&value| grid.round(value)).collect();
                for isa in Isa::available() {
                    let mut got = values.clone();
                    round_to_grid(isa, &mut got, scale, zero_point);
                    assert_eq!(got, expected, "{grid:?}, {isa:?}");
                }
            }
        }
    }
}
