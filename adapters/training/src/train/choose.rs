//! Which recipe a run takes.

use super::Outcome;

/// How many standard errors of a paired difference count as noise.
const NOISE: f64 = 0.5;

/// Whether the second list of hits is as good as the first on the same pictures, within the noise: the standard error of
/// the difference in hits is the root of the number of pictures on which the two disagree.
pub(super) fn as_good(best: &[bool], other: &[bool]) -> bool {
    let lost = best
        .iter()
        .zip(other)
        .filter(|(best, other)| **best && !**other)
        .count() as f64;
    let won = best
        .iter()
        .zip(other)
        .filter(|(best, other)| !**best && **other)
        .count() as f64;
    lost - won <= NOISE * (lost + won).sqrt()
}

/// The index of the cheapest outcome (they stand cheapest first) that is as good as the most accurate one.
pub(super) fn choose(outcomes: &[Outcome]) -> usize {
    let hits: Vec<Vec<bool>> = outcomes.iter().map(|outcome| outcome.validation.hits()).collect();
    choose_by_hits(&hits)
}

fn choose_by_hits(hits: &[Vec<bool>]) -> usize {
    let count = |hits: &[bool]| hits.iter().filter(|hit| **hit).count();
    let best = (0..hits.len()).fold(0, |best, index| {
        if count(&hits[index]) > count(&hits[best]) {
            index
        } else {
            best
        }
    });
    (0..hits.len())
        .find(|&index| as_good(&hits[best], &hits[index]))
        .unwrap_or(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(correct: std::ops::Range<usize>) -> Vec<bool> {
        (0..100).map(|picture| correct.contains(&picture)).collect()
    }

    #[test]
    fn the_cheapest_of_equals_is_taken() {
        assert_eq!(choose_by_hits(&[hits(0..80), hits(0..80), hits(0..80)]), 0);
    }

    #[test]
    fn a_clear_gain_is_worth_its_bytes_and_a_doubtful_one_is_not() {
        assert_eq!(choose_by_hits(&[hits(0..80), hits(0..90), hits(0..90)]), 1);
        // Ten won, nine lost: noise.
        assert_eq!(choose_by_hits(&[hits(0..80), hits(9..90)]), 0);
    }
}
