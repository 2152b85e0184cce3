//! Rows of a dense layer that are 8-bit integers times one scale.

use crate::QuantisedTensor;

/// The largest integer. The range is symmetric, so −128 is not used.
const LARGEST: f32 = 127.0;
/// Maximum distance between the scale of a row and the quotient of its largest weight, in units in the last place: one
/// rounding of the largest weight and one of the quotient.
const DISTANCE: usize = 2;

/// Returns the scale with which the largest weight of a row becomes 127; 1 for a row whose weights are all 0.
pub(crate) fn row_scale(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let scale = largest / LARGEST;
    if scale.is_normal() { scale } else { 1.0 }
}

/// Returns the integers and scales whose products are exactly the weights `[O, I]`, if there are any.
pub(super) fn integer_rows(shape: [usize; 2], weight: &[f32]) -> Option<QuantisedTensor> {
    let (mut integers, mut scales) = (Vec::with_capacity(weight.len()), Vec::with_capacity(shape[0]));
    for row in weight.chunks_exact(shape[1]) {
        let (own, scale) = candidates(row_scale(row)).find_map(|scale| Some((integer_row(row, scale)?, scale)))?;
        integers.extend(own);
        scales.push(scale);
    }
    Some(QuantisedTensor::new(shape, integers, scales))
}

/// Returns the scales next to `scale`, the nearest ones first.
fn candidates(scale: f32) -> impl Iterator<Item = f32> {
    let up = std::iter::successors(Some(scale), |scale| Some(scale.next_up()));
    let down = std::iter::successors(Some(scale), |scale| Some(scale.next_down()));
    up.zip(down).take(DISTANCE + 1).flat_map(|(up, down)| [up, down])
}

/// Returns the integers whose products with `scale` are exactly the weights.
fn integer_row(row: &[f32], scale: f32) -> Option<Vec<i8>> {
    let integers = row.iter().map(|weight| {
        let integer = (weight / scale).round_ties_even() as i8;
        (f32::from(integer) * scale)
            .to_bits()
            .eq(&weight.to_bits())
            .then_some(integer)
    });
    integers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_integers_times_any_scale_are_recognised_bit_for_bit() {
        let integers: Vec<i8> = (-127..=127).collect();
        let mut scale = 1.0e-30_f32;
        for _ in 0..4000 {
            let row: Vec<f32> = integers.iter().map(|&integer| f32::from(integer) * scale).collect();
            let found = integer_rows([1, row.len()], &row).unwrap();
            assert_eq!(found.dequantised(), row, "{scale:e}");
            scale = (scale * 1.034_567).next_up();
        }
        let zeros = integer_rows([2, 2], &[0.0; 4]).unwrap();
        assert_eq!(zeros.dequantised(), [0.0; 4]);
        assert!(integer_rows([1, 3], &[1.0, 0.3, 0.0]).is_none());
        assert!(integer_rows([1, 2], &[1.0, -0.0]).is_none());
    }
}
