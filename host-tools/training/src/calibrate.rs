//! Temperature scaling and calibration error.

use clr_adapters::Calibration;
use clr_learning::{argmax, log_probability};

use crate::Evaluation;

/// Number of bins of the expected calibration error. All bins have equal width.
const BINS: usize = 15;
/// Range of the temperature.
const RANGE: (f64, f64) = (0.1, 10.0);

/// Mean probability of the predicted class, and the expected calibration error, both in 0–1.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Confidence {
    /// Mean softmax probability of the best class.
    pub mean: f32,
    /// Mean distance between that probability and the fraction of correctly classified images, over 15 bins of equal
    /// width, weighted by their number of images (Naeini et al. 2015).
    pub calibration_error: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
}

impl Evaluation {
    /// Returns confidence, calibration error and loss of the logits divided by `temperature`.
    pub fn confidence(&self, temperature: f32) -> Confidence {
        let mut bins = [(0.0_f64, 0.0_f64); BINS];
        let (mut sum, mut loss) = (0.0, 0.0);
        for (row, &label) in self.logits.iter().zip(&self.labels) {
            let best = argmax(row);
            let probability = log_probability(row, best, f64::from(temperature)).exp();
            loss -= log_probability(row, label as usize, f64::from(temperature));
            let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
            bin.0 += probability;
            bin.1 += f64::from(u8::from(best == label as usize));
            sum += probability;
        }
        let images = self.labels.len().max(1) as f64;
        let gap: f64 = bins
            .iter()
            .map(|(probability, right)| (probability - right).abs())
            .sum();
        Confidence {
            mean: (sum / images) as f32,
            calibration_error: (gap / images) as f32,
            loss: (loss / images) as f32,
        }
    }

    /// Returns the temperature in 0.1 to 10 with the lowest cross-entropy (Guo et al. 2017). A prior around 1, with the
    /// weight of about one image, bounds the result on small splits and on splits in which every image is classified
    /// correctly: half the square of the temperature's logarithm is added to the sum of losses.
    pub fn temperature(&self) -> f32 {
        let cost = |log: f64| {
            let loss: f64 = (self.logits.iter().zip(&self.labels))
                .map(|(row, &label)| -log_probability(row, label as usize, log.exp()))
                .sum();
            loss + 0.5 * log * log
        };
        // Golden-section search. The loss is convex in 1 / T, so it also has a single minimum in ln T.
        let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
        let (mut low, mut high) = (RANGE.0.ln(), RANGE.1.ln());
        let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
        let (mut at_left, mut at_right) = (cost(left), cost(right));
        for _ in 0..40 {
            if at_left <= at_right {
                (high, right, at_right) = (right, left, at_left);
                left = high - ratio * (high - low);
                at_left = cost(left);
            } else {
                (low, left, at_left) = (left, right, at_right);
                right = low + ratio * (high - low);
                at_right = cost(right);
            }
        }
        f64::midpoint(low, high).exp() as f32
    }

    /// Returns the calibration errors without and with the temperature.
    pub fn calibration(&self, temperature: f32) -> Calibration {
        Calibration {
            before: self.confidence(1.0).calibration_error,
            after: self.confidence(temperature).calibration_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt as _;

    use crate::{Purpose, stream};

    /// Returns an evaluation of four classes. The labels are drawn from the softmax of logits, and the evaluation has
    /// these logits times `factor`.
    fn drawn(images: usize, factor: f32) -> Evaluation {
        let mut random = stream(5, Purpose::Order, 0, 0);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..images {
            let row: Vec<f32> = (0..4).map(|_| 6.0 * random.random::<f32>()).collect();
            let mut rest = random.random::<f64>();
            let label = (0..4).find(|&class| {
                rest -= log_probability(&row, class, 1.0).exp();
                rest < 0.0
            });
            labels.push(label.unwrap_or(3) as u32);
            logits.push(row.iter().map(|value| factor * value).collect());
        }
        Evaluation::from_logits(logits, labels, &["a", "b", "c", "d"].map(str::to_owned))
    }

    #[test]
    fn the_temperature_undoes_a_scale_of_the_logits() {
        for factor in [0.5, 1.0, 3.0] {
            let evaluation = drawn(4_000, factor);
            let temperature = evaluation.temperature();
            assert!((temperature / factor - 1.0).abs() < 0.1, "{temperature} for {factor}");
            let Calibration { before, after } = evaluation.calibration(temperature);
            assert!(
                after < 0.03 && (after < before || factor == 1.0),
                "{before} became {after}"
            );
            let loss = |temperature| evaluation.confidence(temperature).loss;
            assert!(loss(temperature) <= loss(1.0) + 1e-6);
        }
    }

    #[test]
    fn without_misclassified_images_the_temperature_stays_moderate() {
        let rows = vec![vec![4.0, 0.0]; 20];
        let evaluation = Evaluation::from_logits(rows, vec![0; 20], &["a", "b"].map(str::to_owned));
        let temperature = evaluation.temperature();
        assert!(temperature > 0.3 && temperature < 1.0, "{temperature}");
    }

    #[test]
    fn the_calibration_error_is_the_gap_between_probability_and_accuracy() {
        // Two classes, and 100 images with the same logits: the probability is 0.88, and 70 images are correct.
        let labels = (0..100).map(|index| u32::from(index >= 70)).collect();
        let evaluation = Evaluation::from_logits(vec![vec![2.0, 0.0]; 100], labels, &["a", "b"].map(str::to_owned));
        let confidence = evaluation.confidence(1.0);
        let expected = 1.0 / (1.0 + (-2.0_f32).exp());
        assert!((confidence.mean - expected).abs() < 1e-6);
        assert!((confidence.calibration_error - (expected - 0.7)).abs() < 1e-6);
        assert!((confidence.loss - evaluation.loss).abs() < 1e-6);
    }
}
