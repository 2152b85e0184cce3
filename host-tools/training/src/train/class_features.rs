//! Class features for the file, measured with the network that the file contains.

use clr_adapters::{ClassFeatures, Head};
use clr_learning::{CLASS_FEATURES_STEP, LabelledFeatures, Network, learn_class_features};

use crate::{batches::SplitImages, error::Result, evaluate::features_of, executor::Executor};

/// Most images of a split from which class features are computed.
const MOST_IMAGES: usize = 4_096;

/// Largest factor on the steps of class features. Beyond it, taught classes are recognised much less.
pub(super) const MOST_CLASS_GROWTH: f64 = 2.5;

/// Least number of validation images for margins of their own: a thousandth of fewer images is no estimate.
const LEAST_VALIDATION: usize = 200;

/// Features of training and validation images by a network.
pub(super) struct Measured {
    train: LabelledFeatures,
    validation: LabelledFeatures,
    head: Head,
    seed: u64,
}

impl Measured {
    pub(super) fn new(
        executor: &Executor,
        network: &Network,
        (train, validation): (&SplitImages, &SplitImages),
        seed: u64,
        workers: usize,
    ) -> Result<Self> {
        let of = |images: &SplitImages| -> Result<LabelledFeatures> {
            let stride = images.len().div_ceil(MOST_IMAGES).max(1);
            let order: Vec<usize> = (0..images.len()).step_by(stride).collect();
            let labels = images.labels();
            Ok(LabelledFeatures {
                features: features_of(executor, network, images, &order, workers)?,
                labels: order.iter().map(|&index| labels[index]).collect(),
            })
        };
        Ok(Self {
            train: of(train)?,
            validation: if validation.len() < LEAST_VALIDATION {
                LabelledFeatures::default()
            } else {
                of(validation)?
            },
            head: network.head(),
            seed,
        })
    }

    /// Returns the class features with steps that are `growth` times the usual ones; `None` if a class has no training
    /// image.
    pub(super) fn class_features(&self, growth: f64) -> Result<Option<ClassFeatures>> {
        let step = growth * CLASS_FEATURES_STEP;
        Ok(learn_class_features(
            &self.train,
            &self.validation,
            &self.head,
            step,
            self.seed,
        )?)
    }
}
