//! Options of compact adapter files.

use serde::{Deserialize, Serialize};

/// Options of files with the encoding [`Encoding::Compact`](clr_adapters::Encoding::Compact): steps of their values, and epochs in which the sites and
/// the head are trained with rounded values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CompactOptions {
    /// Maximum bytes of the file; `None` if the steps alone decide. Steps are made larger until the file fits.
    pub bytes: Option<usize>,
    /// Number of epochs with rounded values, after those of the schedule.
    pub epochs: usize,
    /// Step of kernels and scales, in units of the channel's own factor.
    pub weights: f64,
    /// Step of biases, in units of the deviation of the channel's output.
    pub bias: f64,
    /// Step of the head's weight, in units of its root mean square.
    pub head: f64,
    /// Exponent of a site's importance: 0 for equal steps, 1 for steps that make the expected loss of every site's
    /// values equal.
    pub importance: f64,
    /// Factor of the L1 norm of the differences from the backbone.
    pub penalty: f64,
    /// Factor on the schedule's learning rates at the start of these epochs. They decrease to zero.
    pub rate: f64,
    /// Whether the file contains class features, from which a device learns without old images.
    pub class_features: bool,
}

impl CompactOptions {
    /// Sets whether the file contains class features.
    #[must_use]
    pub fn with_class_features(mut self, class_features: bool) -> Self {
        self.class_features = class_features;
        self
    }

    /// Sets the maximum bytes of the file; `None` if the steps alone decide.
    #[must_use]
    pub fn with_bytes(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.bytes = bytes.into();
        self
    }
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            bytes: None,
            epochs: 4,
            weights: 0.06,
            bias: 0.4,
            head: 0.3,
            importance: 0.5,
            penalty: 0.05,
            rate: 0.4,
            class_features: true,
        }
    }
}
