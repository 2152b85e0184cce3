//! Area under the ROC curve.

/// Returns the area under the ROC curve: the fraction of pairs in which the value from `positive` exceeds the one from
/// `negative`, where ties count half. Returns one half if either is empty.
pub(super) fn auroc(positive: &[f32], negative: &[f32]) -> f64 {
    let pairs = positive.len() as f64 * negative.len() as f64;
    if pairs == 0.0 {
        return 0.5;
    }
    let mut negative = negative.to_vec();
    negative.sort_by(f32::total_cmp);
    let wins: f64 = positive
        .iter()
        .map(|value| {
            let below = negative.partition_point(|other| other < value);
            let equal = negative.partition_point(|other| other <= value) - below;
            below as f64 + 0.5 * equal as f64
        })
        .sum();
    wins / pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let is = |positive: &[f32], negative: &[f32], area: f64| (auroc(positive, negative) - area).abs() < 1e-12;
        assert!(is(&[2.0, 3.0], &[0.0, 1.0], 1.0));
        assert!(is(&[0.0, 1.0], &[2.0, 3.0], 0.0));
        assert!(is(&[1.0, 1.0], &[1.0], 0.5));
        assert!(is(&[1.0, 3.0], &[0.0, 2.0], 0.75));
        assert!(is(&[], &[0.0], 0.5));
    }
}
