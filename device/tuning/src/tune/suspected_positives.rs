//! Unlabelled frames that probably show a new class (PU learning).
//!
//! A camera often sees an object before its class is taught. Such frames count against the new class: with five among a
//! hundred frames, only half as many images of the class were recognised. A frame is excluded if class weights fitted
//! without it give it a higher confidence for the new class than half of the class's own images have. It is not
//! excluded if the parent's confidence in its own class is higher than for nine in ten of the class's images.

use super::{
    bias_calibration::cross_validate,
    class_weights::{ClassWeights, Sample, log_sum},
};

/// At most one in this many frames is excluded.
const MOST: usize = 10;
/// Number of rounds. Each fit is better without the frames excluded in earlier rounds.
const ROUNDS: usize = 3;

/// Returns the indices of the suspected frames. `confidence` is the parent's highest probability for each sample.
pub(super) fn suspected_positives(
    start: &ClassWeights,
    samples: &[Sample<'_>],
    frames: &[bool],
    confidence: &[f64],
    logit_margin: f64,
) -> Vec<usize> {
    let most = frames.iter().filter(|frame| **frame).count() / MOST;
    let own = samples.iter().zip(confidence).filter(|(sample, _)| sample.own);
    let confident = nine_in_ten(own.map(|(_, &confidence)| confidence).collect());
    let mut found: Vec<usize> = Vec::new();
    for _ in 0..ROUNDS {
        let kept: Vec<usize> = (0..samples.len()).filter(|index| !found.contains(index)).collect();
        let of_kept: Vec<&Sample<'_>> = kept.iter().map(|&index| &samples[index]).collect();
        let mut held_out_logits = vec![0.0; kept.len()];
        let all: Vec<usize> = (0..kept.len()).collect();
        if cross_validate(start, &of_kept, &all, logit_margin, &mut held_out_logits).is_none() {
            break;
        }
        let leads = || {
            of_kept
                .iter()
                .zip(&held_out_logits)
                .map(|(sample, logit)| logit - log_sum(sample.others))
        };
        let own = leads()
            .zip(&of_kept)
            .filter(|(_, sample)| sample.own)
            .map(|(lead, _)| lead);
        let bound = median(own.collect()).max(0.0);
        let more: Vec<usize> = (leads().zip(&kept))
            .filter(|&(lead, &index)| lead > bound && frames[index] && confidence[index] <= confident)
            .map(|(_, &index)| index)
            .collect();
        if more.is_empty() || found.len() + more.len() > most {
            break;
        }
        found.extend(more);
    }
    found
}

/// Returns the median; 0 without values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Returns the 90th percentile; 0 if there are no values.
fn nine_in_ten(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (9 * values.len() / 10).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_that_look_like_the_class_and_of_which_the_parent_is_not_confident_are_suspected() {
        let class = |at: usize| [0.9 + 0.01 * at as f32, 0.1];
        let other = |at: usize| [0.1, 0.9 - 0.01 * at as f32];
        let features: Vec<[f32; 2]> = (0..10)
            .map(class)
            .chain((0..40).map(other))
            .chain((4..7).map(class))
            .collect();
        let others = [0.5, 0.0];
        let samples: Vec<Sample<'_>> = (features.iter().enumerate())
            .map(|(index, features)| Sample {
                features,
                others: &others,
                own: index < 10,
            })
            .collect();
        let start = ClassWeights {
            weight: vec![0.0; 2],
            bias: 0.0,
        };
        // The parent is confident on the last frame, and the one before it has a label.
        let mut confidence = vec![0.6; features.len()];
        confidence[52] = 0.9;
        let frames: Vec<bool> = (0..features.len()).map(|index| index >= 10 && index != 51).collect();
        assert_eq!(suspected_positives(&start, &samples, &frames, &confidence, 1.0), [50]);
        // More than a tenth of the frames would have to be excluded, so none is.
        let few: Vec<bool> = (0..features.len()).map(|index| index >= 45).collect();
        assert_eq!(
            suspected_positives(&start, &samples, &few, &confidence, 1.0),
            [] as [usize; 0]
        );
    }
}
