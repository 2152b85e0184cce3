//! Selection of the recipe.

use super::Outcome;
use crate::{Evaluation, uncertainty::standard_error};

/// Returns the index of the selected outcome. `outcomes` are in the order of [`clr_adapters::Recipe::ALL`], those with
/// the fewest parameters first.
pub(super) fn choose(outcomes: &[Outcome]) -> usize {
    let validations: Vec<&Evaluation> = outcomes.iter().map(|outcome| &outcome.validation).collect();
    choose_by_validation(&validations)
}

/// Returns the largest recipe within one standard error of the best accuracy (`docs/reference/training.md` has the
/// measurements). Skips a recipe that is correct on the same images as a smaller one.
fn choose_by_validation(validations: &[&Evaluation]) -> usize {
    let hits: Vec<Vec<bool>> = validations.iter().map(|validation| validation.hits()).collect();
    let best = validations
        .iter()
        .map(|validation| validation.accuracy)
        .fold(0.0, f32::max);
    let images = validations.first().map_or(0, |validation| validation.images);
    let least = best - standard_error(best, images);
    let brings = |index: usize| validations[index].accuracy >= least && !hits[..index].contains(&hits[index]);
    (0..validations.len()).rev().find(|&index| brings(index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an evaluation of 100 images of two classes, of which those in the range are classified correctly.
    fn validation(correct: std::ops::Range<usize>) -> Evaluation {
        let logits = (0..100).map(|image| vec![1.0, if correct.contains(&image) { 0.0 } else { 2.0 }]);
        Evaluation::from_logits(logits.collect(), vec![0; 100], &["a".to_owned(), "b".to_owned()])
    }

    fn chosen(ranges: [std::ops::Range<usize>; 3]) -> usize {
        let validations = ranges.map(validation);
        choose_by_validation(&validations.each_ref())
    }

    #[test]
    fn a_larger_recipe_without_more_hits_is_not_taken() {
        assert_eq!(chosen([0..80, 0..80, 0..80]), 0);
        assert_eq!(chosen([0..80, 0..90, 0..90]), 1);
    }

    #[test]
    fn recipes_that_validation_cannot_distinguish_are_decided_for_more_parameters() {
        assert_eq!(chosen([0..80, 0..82, 1..82]), 2);
        // Two standard errors below: no.
        assert_eq!(chosen([0..80, 0..90, 0..82]), 1);
        assert_eq!(chosen([0..90, 0..70, 0..70]), 0);
    }
}
