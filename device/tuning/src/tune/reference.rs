//! Features and logits of images by the parent, used to test candidates and to refit class weights.

use clr_adapters::{Adapter, Head};
use clr_learning::{LearningError, Network, PrefixActivations, argmax};

use super::{Observer, run_images::RunImages, size};
use crate::{
    Parent, TuneOptions,
    error::{Result, TuneError},
    images::{Image, VARIANTS},
};

/// Maximum number of training images of old classes, because the time of a fit grows with the cube of their number. A
/// quarter of it applies to held-out images.
const MOST_REPLAYED: usize = 256;
/// The same maximum for images of the classes to learn.
const MOST_LEARNED: usize = 512;

/// An image with the parent's outputs.
pub(super) struct ReferenceOutput<'a> {
    pub(super) image: &'a Image,
    /// Whether the image is held out and not used by the steps.
    pub(super) held: bool,
    /// The class of the label; without a label, the parent's prediction.
    pub(super) class: usize,
    /// The parent's features.
    pub(super) features: Vec<f32>,
    /// The parent's logits.
    pub(super) logits: Vec<f32>,
}

/// Images with the parent's outputs, grouped by role.
pub(super) struct ReferenceOutputs<'a> {
    /// Labelled images of the classes to learn.
    pub(super) learned: Vec<ReferenceOutput<'a>>,
    /// Labelled images of the other classes, and unlabelled frames. Frames that the parent predicts as a new class are
    /// left out, because they provide no information on the old ones.
    pub(super) replayed: Vec<ReferenceOutput<'a>>,
    /// The publisher's canaries.
    pub(super) canaries: Vec<ReferenceOutput<'a>>,
}

/// Extracts features of images with the parent's or a candidate's network.
pub(super) struct FeatureExtractor<'a> {
    pub(super) parent: &'a Parent,
    pub(super) options: &'a TuneOptions,
    pub(super) pool: &'a rayon::ThreadPool,
    pub(super) images: &'a RunImages,
}

impl<'a> FeatureExtractor<'a> {
    /// Returns the features `[F]` of an image by `network`.
    pub(super) fn features(&self, network: &Network, image: &Image, observer: &mut dyn Observer) -> Result<Vec<f32>> {
        if observer.should_stop() {
            let steps = self.options.steps;
            return Err(TuneError::Stopped { step: steps, steps });
        }
        self.features_of_variant(network, image, 0)
    }

    fn features_of_variant(&self, network: &Network, image: &Image, variant: u64) -> Result<Vec<f32>> {
        let header = &self.parent.adapter.header;
        let input = image.variant(variant, self.options.seed, &header.preprocessing);
        Ok(self.pool.install(|| network.image_features(&input, size(header)))?)
    }

    /// Returns the features of all variants of an image by `network`, `[VARIANTS, F]`.
    pub(super) fn features_of_variants(
        &self,
        network: &Network,
        image: &Image,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Vec<f32>>> {
        let mut all = vec![self.features(network, image, observer)?];
        for variant in 1..VARIANTS {
            all.push(self.features_of_variant(network, image, variant)?);
        }
        Ok(all)
    }

    /// Returns the features of these images by `network`, in the given order.
    pub(super) fn features_of_all(
        &self,
        network: &Network,
        outputs: &[ReferenceOutput<'_>],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Vec<f32>>> {
        let features = |output: &ReferenceOutput<'_>| self.features(network, output.image, observer);
        outputs.iter().map(features).collect()
    }

    /// Returns the parent's outputs for all images of the run. `reference` is the parent's network.
    pub(super) fn outputs(&self, reference: &Network, observer: &mut dyn Observer) -> Result<ReferenceOutputs<'a>> {
        let mut output = |(image, held): (&'a Image, bool)| -> Result<ReferenceOutput<'a>> {
            let features = self.features(reference, image, observer)?;
            let logits = head_logits(&self.parent.adapter, &features);
            let old = match self.parent.protected {
                0 => logits.len(),
                protected => protected,
            };
            Ok(ReferenceOutput {
                image,
                held,
                class: image.class.unwrap_or_else(|| argmax(&logits[..old])),
                features,
                logits,
            })
        };
        let images = self.images;
        let groups = |training: &'a [Image], held: &'a [Image], most: usize| {
            let training = spread(training, most).map(|image| (image, false));
            training.chain(spread(held, most / 4).map(|image| (image, true)))
        };
        let learned = groups(&images.learned, &images.held_learned, MOST_LEARNED)
            .map(&mut output)
            .collect::<Result<Vec<_>>>()?;
        let mut replayed = groups(&images.replayed, &images.held_old, MOST_REPLAYED)
            .map(&mut output)
            .collect::<Result<Vec<_>>>()?;
        let protected = self.parent.protected;
        let shows_old =
            |output: &ReferenceOutput<'_>| output.image.class.is_some() || argmax(&output.logits) < protected;
        replayed.retain(|output| protected == 0 || shows_old(output));
        let canaries = (images.canaries.iter().map(|image| (image, true)))
            .map(&mut output)
            .collect::<Result<Vec<_>>>()?;
        Ok(ReferenceOutputs {
            learned,
            replayed,
            canaries,
        })
    }
}

/// Selects at most `most` items at regular intervals.
pub(super) fn spread<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    all.iter().step_by(all.len().div_ceil(most).max(1))
}

/// Returns the logits `[K]` of features `[F]` by an adapter's head.
pub(super) fn head_logits(adapter: &Adapter, features: &[f32]) -> Vec<f32> {
    let Head { weight, bias, .. } = &adapter.head;
    let rows = weight.chunks_exact(adapter.head.features.max(1)).zip(bias);
    rows.map(|(row, &bias)| {
        let products = row.iter().zip(features).map(|(&w, &x)| f64::from(w) * f64::from(x));
        (products.sum::<f64>() + f64::from(bias)) as f32
    })
    .collect()
}

/// Returns a network's logits `[K]` of an image from its prefix activations.
pub(super) fn logits(
    network: &Network,
    prefix: &PrefixActivations,
    size: [usize; 2],
) -> Result<Vec<f32>, LearningError> {
    Ok(network.classify(&network.features_from_prefix(prefix, size)?))
}
