//! The loss of a quantised backbone.

use std::fmt;

/// Loss of a quantised backbone on images that were not used for calibration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Relative error of the features, ‖int8 − float‖ / ‖float‖, on average over the images.
    pub error: f64,
    /// Fraction of the images on which the original classifier has the same first class; `None` without a classifier.
    pub agreement: Option<f64>,
    /// Number of images.
    pub images: usize,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "relative error of the features {:.3} on {} held-out images",
            self.error, self.images
        )?;
        match self.agreement {
            Some(agreement) => write!(
                f,
                ", same first class of the original classifier {:.1} %",
                100.0 * agreement
            ),
            None => Ok(()),
        }
    }
}
