//! Selection of the convolutions that stay in float, if int8 alone loses too much.

use std::collections::BTreeSet;

use clr_onnx::{Backbone, Op, Quantiser};

use crate::{
    QuantisationError,
    calibrate::Calibration,
    correct::Shifts,
    evaluate::{features, relative_error},
    images::Input,
};

/// Number of images on which single convolutions are compared.
pub(crate) const IMAGES: usize = 8;

/// Returns the convolutions by the error that remains when each alone is returned to float, with the least error first.
pub(crate) fn ranking(
    backbone: &Backbone,
    calibration: &Calibration,
    shifts: &Shifts,
    inputs: &[Input],
    done: &mut dyn FnMut(usize),
) -> Result<Vec<String>, QuantisationError> {
    // Images from all folders, because they are sorted by folder.
    let inputs: Vec<Input> = (0..inputs.len().min(IMAGES))
        .map(|at| inputs[at * inputs.len() / IMAGES.min(inputs.len())].clone())
        .collect();
    let sizes = &calibration.sizes;
    let reference = features(backbone, sizes, &inputs)?;
    let mut ranked = Vec::new();
    for (index, node) in calibration.folded.graph().nodes.iter().enumerate() {
        if !matches!(node.op, Op::Conv(_)) {
            continue;
        }
        let quantiser = Quantiser::new(backbone, &BTreeSet::from([node.name.clone()]))?;
        let mut shifts = shifts.clone();
        shifts.remove(&index);
        let quantised = quantiser.quantise(&calibration.grids(&quantiser), &shifts)?;
        let error = relative_error(&reference, &features(&quantised, sizes, &inputs)?);
        tracing::debug!("`{}` in float: relative error of the features {error:.4}", node.name);
        ranked.push((error, node.name.clone()));
        done(1);
    }
    // A stable sort: equal errors stay in the graph's order.
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(ranked.into_iter().map(|(_, name)| name).collect())
}

/// Returns the numbers of convolutions in float to try: 1, 2, 4 … up to `most`.
pub(crate) fn attempts(most: usize) -> impl Iterator<Item = usize> {
    let powers = std::iter::successors(Some(1), |number| Some(number * 2)).take_while(move |number| *number < most);
    powers.chain((most > 0).then_some(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_double_up_to_the_limit() {
        assert_eq!(attempts(0).count(), 0);
        assert_eq!(attempts(1).collect::<Vec<_>>(), [1]);
        assert_eq!(attempts(13).collect::<Vec<_>>(), [1, 2, 4, 8, 13]);
    }
}
