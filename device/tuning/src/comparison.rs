//! Comparison of parent and candidate on the same images.

use clr_learning::{argmax, log_probability};
use serde::{Deserialize, Serialize};

/// Maximum fraction of old classes' images that a candidate may lose. The margin for noise is added to it.
pub(crate) const MAY_LOSE: f64 = 0.01;

/// Logits of parent and candidate for the same image.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// The true class. For a frame: the class that the parent predicts.
    pub(crate) class: usize,
    /// Logits of the parent.
    pub(crate) parent: Vec<f32>,
    /// Logits of the candidate.
    pub(crate) tuned: Vec<f32>,
}

/// Comparison of two adapters on the same images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Number of images.
    #[serde(rename = "pictures")]
    pub images: u32,
    /// Number of the images that the parent predicts correctly.
    pub parent: u32,
    /// Number of the images that the tuned adapter predicts correctly.
    pub tuned: u32,
    /// Number of the images that only the tuned adapter predicts correctly.
    pub won: u32,
    /// Number of the images that only the parent predicts correctly.
    pub lost: u32,
    /// Mean increase of the true class's log probability, in nats.
    pub gain: f64,
    /// Standard error of `gain`.
    pub error: f64,
}

impl Comparison {
    pub(crate) fn of(pairs: &[Pair]) -> Self {
        let mut result = Self {
            images: pairs.len() as u32,
            ..Self::default()
        };
        let mut gains = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (parent, tuned) = (argmax(&pair.parent) == pair.class, argmax(&pair.tuned) == pair.class);
            result.parent += u32::from(parent);
            result.tuned += u32::from(tuned);
            result.won += u32::from(tuned && !parent);
            result.lost += u32::from(parent && !tuned);
            gains.push(log_probability(&pair.tuned, pair.class, 1.0) - log_probability(&pair.parent, pair.class, 1.0));
        }
        let n = gains.len() as f64;
        result.gain = gains.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = gains.iter().map(|gain| (gain - result.gain).powi(2)).sum();
        result.error = (squares / (n - 1.0).max(1.0) / n.max(1.0)).sqrt();
        result
    }

    /// Returns whether the tuned adapter is better. Either more images are correct by more than one standard error of
    /// the difference (the root of the number of images on which the two disagree), or no fewer images are correct and
    /// the true class is more probable by more than two standard errors.
    pub(crate) fn better(&self) -> bool {
        let (won, lost) = (f64::from(self.won), f64::from(self.lost));
        let more = won - lost > (won + lost).sqrt();
        let surer = self.images > 1 && won >= lost && self.gain > 2.0 * self.error.max(1e-3);
        more || surer
    }

    /// Returns whether more images are correct, or as many and the true class is more probable, be it by noise.
    pub(crate) fn slightly_better(&self) -> bool {
        self.won > self.lost || self.won == self.lost && self.gain > 0.0
    }

    /// Returns whether the tuned adapter is worse. It is if fewer images are correct, and the difference exceeds one
    /// standard error plus a hundredth of the images.
    pub(crate) fn worse(&self) -> bool {
        let (won, lost) = (f64::from(self.won), f64::from(self.lost));
        lost - won > MAY_LOSE * f64::from(self.images) + (won + lost).sqrt()
    }
}
