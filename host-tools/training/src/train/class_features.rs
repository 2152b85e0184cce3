//! Class features for the file, measured with the network that the file contains.

use clr_adapters::ClassFeatures;
use clr_learning::{LabelledFeatures, Network, learn_class_features};

use super::prepare::Prepared;
use crate::{batches::SplitImages, error::Result, evaluate::features_of};

/// Most images of a split from which class features are computed.
const MOST_IMAGES: usize = 4_096;

/// Returns the class features of `network`; `None` if a class has no training image.
pub(super) fn class_features(prepared: &Prepared<'_>, network: &Network) -> Result<Option<ClassFeatures>> {
    let of = |images: &SplitImages| -> Result<LabelledFeatures> {
        let stride = images.len().div_ceil(MOST_IMAGES).max(1);
        let order: Vec<usize> = (0..images.len()).step_by(stride).collect();
        let labels = images.labels();
        Ok(LabelledFeatures {
            features: features_of(&prepared.executor, network, images, &order, prepared.options.workers())?,
            labels: order.iter().map(|&index| labels[index]).collect(),
        })
    };
    Ok(learn_class_features(
        &of(&prepared.train)?,
        &of(&prepared.validation)?,
        &network.head(),
        prepared.options.seed,
    )?)
}
