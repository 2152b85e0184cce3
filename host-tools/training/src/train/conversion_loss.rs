//! What a conversion changes, and how much of it is accepted.

use clr_learning::argmax;
use serde::Serialize;

use crate::{Evaluation, uncertainty::standard_error};

/// Loss of accuracy that is accepted in any case.
const ACCEPTED_LOSS: f32 = 0.005;
/// Fraction of images whose class may change.
const ACCEPTED_CHANGES: f32 = 0.03;

/// The parent and the converted adapter on the images of a split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ConversionLoss {
    /// Number of images.
    pub images: usize,
    /// Accuracy of the parent on the float backbone, as a fraction.
    pub accuracy: f32,
    /// Accuracy of the converted adapter on the quantised backbone.
    pub converted_accuracy: f32,
    /// Fraction of the images that both give the same class.
    pub same_class: f32,
}

impl ConversionLoss {
    pub(super) fn new(parent: &Evaluation, converted: &Evaluation) -> Self {
        let pairs = parent.logits.iter().zip(&converted.logits);
        let same = pairs.filter(|(before, after)| argmax(before) == argmax(after)).count();
        Self {
            images: parent.images,
            accuracy: parent.accuracy,
            converted_accuracy: converted.accuracy,
            same_class: same as f32 / parent.images.max(1) as f32,
        }
    }

    /// Returns whether the accuracy fell by more than half a point and more than its standard error, or the class of more
    /// than 3 % of the images and of more than one image changed.
    pub fn is_too_large(&self) -> bool {
        let lost = self.accuracy - self.converted_accuracy;
        let changed = (1.0 - self.same_class) * self.images as f32;
        lost > standard_error(self.accuracy, self.images).max(ACCEPTED_LOSS)
            || changed.round() > (ACCEPTED_CHANGES * self.images as f32).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(images: usize, accuracy: f32, converted_accuracy: f32, changed: usize) -> ConversionLoss {
        ConversionLoss {
            images,
            accuracy,
            converted_accuracy,
            same_class: 1.0 - changed as f32 / images as f32,
        }
    }

    #[test]
    fn a_loss_beyond_the_standard_error_and_half_a_point_is_too_large() {
        // The standard error is 0.95 points.
        assert!(!loss(1_000, 0.9, 0.892, 20).is_too_large());
        assert!(loss(1_000, 0.9, 0.889, 20).is_too_large());
        // Here it is 0.1 points.
        assert!(!loss(100_000, 0.9, 0.8955, 20).is_too_large());
        assert!(loss(100_000, 0.9, 0.894, 20).is_too_large());
        assert!(!loss(1_000, 0.9, 1.0, 20).is_too_large());
    }

    #[test]
    fn other_classes_of_more_than_three_per_cent_of_the_images_are_too_many() {
        assert!(!loss(1_000, 0.5, 0.5, 30).is_too_large());
        assert!(loss(1_000, 0.5, 0.5, 31).is_too_large());
        assert!(!loss(10, 0.5, 0.5, 1).is_too_large());
        assert!(loss(10, 0.5, 0.5, 2).is_too_large());
    }
}
