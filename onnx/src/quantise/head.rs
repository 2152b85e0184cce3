//! Rounding of a classifier's weights.

use clr_adapters::Head;

use crate::write::row_scale;

/// Returns the classifier with the weights of each class rounded to 8-bit integers times one scale. Files store such weights
/// as integers.
pub(super) fn rounded(head: &Head) -> Head {
    let mut weight = Vec::with_capacity(head.weight.len());
    for row in head.weight.chunks_exact(head.features) {
        let scale = row_scale(row);
        weight.extend(row.iter().map(|weight| {
            let integer = (weight / scale).round_ties_even() as i8;
            f32::from(integer) * scale
        }));
    }
    Head { weight, ..head.clone() }
}
