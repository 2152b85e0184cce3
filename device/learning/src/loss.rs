//! Softmax, cross-entropy with soft targets, and its gradient.

/// Returns the index of the highest value; of equal ones the first.
pub fn argmax(row: &[f32]) -> usize {
    (row.iter().enumerate())
        .fold((0, f32::NEG_INFINITY), |best, (index, &value)| {
            if value > best.1 { (index, value) } else { best }
        })
        .0
}

/// Returns the natural logarithm of the softmax probability of `class` at a temperature.
///
/// # Panics
/// If `class` is not below the number of logits.
pub fn log_probability(row: &[f32], class: usize, temperature: f64) -> f64 {
    let peak = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let scaled = |value: f32| (f64::from(value) - peak) / temperature;
    let sum: f64 = row.iter().map(|&value| scaled(value).exp()).sum();
    scaled(row[class]) - sum.ln()
}

/// Returns the logarithms of the softmax probabilities of `logits / temperature`.
pub fn log_softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let peak = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let scaled: Vec<f64> = (logits.iter())
        .map(|&value| (f64::from(value) - peak) / temperature)
        .collect();
    let sum = scaled.iter().map(|value| value.exp()).sum::<f64>().ln();
    scaled.into_iter().map(|value| value - sum).collect()
}

/// Returns the softmax probabilities of `logits / temperature`.
pub fn softmax(logits: &[f32], temperature: f64) -> Vec<f32> {
    let log = log_softmax(logits, temperature);
    log.into_iter().map(|value| value.exp() as f32).collect()
}

/// Returns the cross-entropy in nats of the softmax of `logits / temperature` with `target`, and its gradient with
/// respect to the logits: `(softmax · Σ target − target) / temperature`. The values of the target must be at least 0,
/// but do not have to sum to 1.
pub fn cross_entropy(logits: &[f32], target: &[f32], temperature: f64) -> (f64, Vec<f64>) {
    let log = log_softmax(logits, temperature);
    let total: f64 = target.iter().map(|&target| f64::from(target)).sum();
    let loss = -(log.iter().zip(target))
        .map(|(log, &target)| log * f64::from(target))
        .sum::<f64>();
    let gradient = (log.iter().zip(target))
        .map(|(log, &target)| (log.exp() * total - f64::from(target)) / temperature)
        .collect();
    (loss, gradient)
}

/// Returns the target `[K]`: `1 − smoothing` on the label, and the rest spread evenly over all classes.
///
/// # Panics
/// If `label` is not below `classes`.
pub fn smoothed_target(label: usize, classes: usize, smoothing: f32) -> Vec<f32> {
    let mut target = vec![smoothing / classes as f32; classes];
    target[label] += 1.0 - smoothing;
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_of_the_cross_entropy_is_a_finite_difference() {
        let logits = [0.3_f32, -1.2, 2.0, 0.7];
        for (target, temperature) in [
            (vec![0.0, 1.0, 0.0, 0.0], 1.0),
            (smoothed_target(2, 4, 0.1), 1.0),
            (vec![0.2, 0.3, 0.4, 0.1], 2.0),
            (vec![0.5, 0.0, 0.2, 0.0], 0.5),
        ] {
            let (loss, gradient) = cross_entropy(&logits, &target, temperature);
            assert!(loss > 0.0);
            for (class, got) in gradient.iter().enumerate() {
                let at = |step: f32| {
                    let mut moved = logits;
                    moved[class] += step;
                    (cross_entropy(&moved, &target, temperature).0, f64::from(moved[class]))
                };
                let ((above, high), (below, low)) = (at(1e-3), at(-1e-3));
                let want = (above - below) / (high - low);
                assert!((got - want).abs() < 1e-5, "{target:?} at {temperature}: {got} {want}");
            }
        }
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let (loss, gradient) = cross_entropy(&[3e38, -3e38, 0.0], &[0.0, 1.0, 0.0], 1.0);
        assert!(loss.is_finite() && gradient.iter().all(|value| value.is_finite()));
        assert_eq!(softmax(&[3e38, -3e38, 0.0], 1.0), [1.0, 0.0, 0.0]);
    }
}
