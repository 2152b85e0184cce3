//! Standard errors of accuracies, and of differences of accuracies.

/// Returns whether `other` is as good as `best` on the same images: its number of hits is within half a standard error
/// of the difference, which is the root of the number of images on which the two disagree.
pub fn as_good(best: &[bool], other: &[bool]) -> bool {
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
    lost - won <= 0.5 * (lost + won).sqrt()
}

/// Returns the standard error of an accuracy measured on `images` images.
pub fn standard_error(accuracy: f32, images: usize) -> f32 {
    (accuracy * (1.0 - accuracy) / images.max(1) as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_loss_is_worse_and_a_doubtful_one_is_not() {
        let hits = |correct: std::ops::Range<usize>| (0..100).map(|i| correct.contains(&i)).collect::<Vec<bool>>();
        assert!(!as_good(&hits(0..90), &hits(0..80)));
        // Ten won, nine lost: noise.
        assert!(as_good(&hits(9..90), &hits(0..80)));
        assert!(as_good(&hits(0..80), &hits(0..90)));
    }

    #[test]
    fn the_error_is_largest_at_one_half_and_falls_with_the_root_of_the_number() {
        assert!((standard_error(0.5, 100) - 0.05).abs() < 1e-6);
        assert!((standard_error(0.9, 900) - 0.01).abs() < 1e-6);
        assert!(standard_error(1.0, 5).abs() < 1e-6);
    }
}
