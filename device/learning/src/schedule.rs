//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// Factor on every learning rate over a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrSchedule {
    /// Linear warm-up during the first `warmup` epochs, then half a cosine down to `min_factor`.
    Cosine {
        /// Epochs of warm-up.
        warmup: f64,
        /// Factor at the end, in 0–1.
        #[serde(alias = "floor")]
        min_factor: f64,
    },
    /// Multiplied by 0.1 after each third of the epochs (the paper's `StepLR`).
    Thirds,
}

impl LrSchedule {
    /// Returns the factor at `epoch`, which may be fractional, of `epochs`.
    pub fn factor(self, epoch: f64, epochs: usize) -> f64 {
        let epochs = epochs.max(1) as f64;
        match self {
            Self::Cosine { warmup, min_factor } => {
                if epoch < warmup {
                    return epoch / warmup;
                }
                let progress = ((epoch - warmup) / (epochs - warmup).max(1e-9)).clamp(0.0, 1.0);
                min_factor + (1.0 - min_factor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
            Self::Thirds => 0.1_f64.powi((epoch / (epochs / 3.0).ceil().max(1.0)) as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_rises_peaks_and_falls_to_its_minimum() {
        let rate = LrSchedule::Cosine {
            warmup: 2.0,
            min_factor: 0.05,
        };
        assert_eq!(rate.factor(0.0, 10), 0.0);
        assert!((rate.factor(1.0, 10) - 0.5).abs() < 1e-12);
        assert!((rate.factor(2.0, 10) - 1.0).abs() < 1e-12);
        assert!((rate.factor(10.0, 10) - 0.05).abs() < 1e-12);
    }

    #[test]
    fn thirds_fall_tenfold() {
        let factors = [0.0, 19.9, 20.0, 40.0, 59.9].map(|epoch| LrSchedule::Thirds.factor(epoch, 60));
        for (factor, expected) in factors.into_iter().zip([1.0, 1.0, 0.1, 0.01, 0.01]) {
            assert!((factor - expected).abs() < 1e-12, "{factor} {expected}");
        }
    }
}
