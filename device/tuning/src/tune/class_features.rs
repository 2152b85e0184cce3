//! Class weights refitted against class features, for devices without images of the old classes.
//!
//! `teach` fits a class to its images as they are. Here the same fit gets their augmented variants as well
//! ([`KnownClasses::fit_variants`]). The adapter's sites do not change: nothing would
//! tell what other sites do to the old classes. All images test the result, each with weights that were fitted without
//! it. The loss of the old classes is predicted from the margins in the file; images of old classes that the device has
//! are evaluated in addition.

use clr_adapters::{Adapter, ClassFeatures, Steps};
use clr_learning::{KnownClasses, TaughtRow};

use super::{
    Observer,
    candidate::{CandidateBuilder, ENOUGH, HeldOutLogits},
    reference::{head_logits, spread},
};
use crate::{
    Parent,
    comparison::MAY_LOSE,
    error::Result,
    examples::{Example, split_examples},
    features::mean,
    fitted_class::{MAY_TAKE, OWN_MARGIN},
    promote::PredictedLoss,
    prototype::{deviation, product},
};

/// Maximum number of images of a class in a fit: the time of the fits grows with the square of their number.
const MOST_FITTED: usize = 64;

/// Squared distance of the parent's weights from those of the same fit, relative to their squared length, up to which
/// only the order of the images explains it.
const SAME: f64 = 1e-3;

/// Logits of the learned images for the refitted classes, with weights that were fitted without the image.
pub(super) struct HeldOut {
    /// By the candidate.
    pub(super) tuned: Vec<HeldOutLogits>,
    /// By the parent.
    pub(super) parent: Vec<HeldOutLogits>,
    /// Whether all of the parent's weights are of such a fit to the same images, so that `parent` is exact.
    pub(super) is_same_fit: bool,
}

/// Returns whether a run from `parent` with the images of `list` has steps. Without images of the old classes, nothing
/// tells what other sites do to these. Class weights are then refitted against the adapter's class features.
pub(crate) fn has_steps(parent: &Parent, list: &[Example]) -> bool {
    let header = &parent.adapter.header;
    let class = |example: &Example| {
        let label = example.label.as_ref()?;
        header.labels.iter().position(|known| known == label)
    };
    let is_new = |example: &Example| class(example).is_some_and(|class| class >= parent.protected);
    let old = list.iter().filter(|example| !is_new(example)).cloned().collect();
    let needs_none = parent.protected > 0 && header.class_features.is_some() && list.iter().any(is_new);
    !needs_none || split_examples(old).training.len() >= ENOUGH
}

impl CandidateBuilder<'_> {
    /// Returns whether class weights can be refitted against class features.
    pub(super) fn knows_classes(&self) -> bool {
        self.parent.adapter.header.class_features.is_some() && !self.classes().is_empty()
    }

    /// Refits the weights of all `classes` against `features`, which get their new means. Returns the logits of the
    /// learned images, and the predicted loss of the publisher's classes.
    pub(super) fn refit_known(
        &self,
        adapter: &mut Adapter,
        features: &mut ClassFeatures,
        observer: &mut dyn Observer,
    ) -> Result<(HeldOut, PredictedLoss)> {
        let learned = &self.outputs.learned;
        let mut held_out = HeldOut {
            tuned: vec![HeldOutLogits::new(); learned.len()],
            parent: vec![HeldOutLogits::new(); learned.len()],
            is_same_fit: true,
        };
        let parent = self.predicted_loss(&self.parent.adapter, features);
        let classes = self.classes();
        let may_take = MAY_TAKE.min(0.8 * MAY_LOSE / classes.len().max(1) as f64);
        for class in classes {
            self.refit_against(adapter, features, class, may_take, &mut held_out, observer)?;
        }
        let tuned = self.predicted_loss(adapter, features);
        Ok((held_out, PredictedLoss { parent, tuned }))
    }

    fn refit_against(
        &self,
        adapter: &mut Adapter,
        features: &mut ClassFeatures,
        class: usize,
        may_take: f64,
        held_out: &mut HeldOut,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let learned = self.outputs.learned.iter().enumerate();
        let own: Vec<_> = learned.filter(|(_, output)| output.class == class).collect();
        let own: Vec<_> = spread(&own, MOST_FITTED).copied().collect();
        let mut variants = Vec::with_capacity(own.len());
        for (_, output) in &own {
            variants.push(
                self.extractor
                    .features_of_variants(self.reference, output.image, observer)?,
            );
        }
        let images: Vec<&[f32]> = own.iter().map(|(_, output)| output.features.as_slice()).collect();
        let range = class * adapter.head.features..(class + 1) * adapter.head.features;
        let before = &self.parent.adapter.head.weight[range.clone()];
        let known = KnownClasses::without(&adapter.head, features, class);
        let rows = Rows::fit(&known, adapter.header.steps, &images, &variants, before);

        let gap = |weights: &[f32], x: &[f32]| {
            let logits = head_logits(adapter, x).into_iter().enumerate();
            let others = logits.filter(|&(other, _)| other != class).map(|(_, logit)| logit);
            f64::from(others.fold(f32::NEG_INFINITY, f32::max)) - product(weights, x)
        };
        let gaps: Vec<f64> = (rows.without_each.iter().zip(&images))
            .map(|(weights, x)| gap(weights, x))
            .collect();
        let enough = gaps.iter().copied().fold(f64::NEG_INFINITY, f64::max) + OWN_MARGIN * deviation(&gaps) + 1e-3;
        // Labelled images of old classes keep their class.
        let labelled = (self.outputs.replayed.iter()).filter(|output| !output.held && output.image.class.is_some());
        let bias = labelled
            .map(|output| gap(&rows.fitted.weight, &output.features) - 1e-3)
            .fold(known.bias(&rows.fitted, may_take), f64::min)
            .min(enough) as f32;

        held_out.is_same_fit &= rows.is_same_fit;
        let bias_before = self.parent.adapter.head.bias[class];
        let logit = |weights: &[f32], bias: f32, x: &[f32]| (product(weights, x) + f64::from(bias)) as f32;
        let pairs = rows.without_each.iter().zip(&rows.before_without_each);
        // A single image cannot test weights that were fitted to it.
        let testing = own.iter().zip(&images).zip(pairs).filter(|_| own.len() > 1);
        for (((index, _), x), (weights, weights_before)) in testing {
            held_out.tuned[*index].push((class, logit(weights, bias, x)));
            held_out.parent[*index].push((class, logit(weights_before, bias_before, x)));
        }
        adapter.head.weight[range].copy_from_slice(&rows.fitted.weight);
        adapter.head.bias[class] = bias;
        let images: Vec<Vec<f32>> = images.into_iter().map(<[f32]>::to_vec).collect();
        let mean: Vec<f32> = mean(&images).into_iter().map(|value| value as f32).collect();
        features.set_class(class, &mean);
        Ok(())
    }

    /// Returns the fraction of the images of the publisher's classes that all other classes of `adapter` take, according
    /// to the margins.
    fn predicted_loss(&self, adapter: &Adapter, features: &ClassFeatures) -> f64 {
        let protected = self.parent.protected;
        let taken = |class: usize| {
            let known = KnownClasses::without(&adapter.head, features, class);
            let size = adapter.head.features;
            let row = known.row(adapter.head.weight[class * size..(class + 1) * size].to_vec());
            let lost = known.lost_of_each(&row, f64::from(adapter.head.bias[class]));
            lost.take(protected).sum::<f64>() / protected.max(1) as f64
        };
        (protected..adapter.head.classes()).map(taken).sum()
    }
}

/// The weights of a class.
struct Rows {
    /// Fitted to all variants of its images, rounded as in the file.
    fitted: TaughtRow,
    /// The same without each image; those of `fitted` for a single image.
    without_each: Vec<Vec<f32>>,
    /// The parent's weights, without each image. The parent's weights were fitted to these images too, by `teach` or by
    /// an earlier run.
    before_without_each: Vec<Vec<f32>>,
    /// Whether they are.
    is_same_fit: bool,
}

impl Rows {
    /// Fits to the features `[F]` of the images and of their variants. `before` are the parent's weights.
    fn fit(
        known: &KnownClasses,
        steps: Option<Steps>,
        images: &[&[f32]],
        variants: &[Vec<Vec<f32>>],
        before: &[f32],
    ) -> Self {
        let in_file = |weights: Vec<f32>| match steps {
            Some(steps) => steps.head.round(&weights),
            None => weights,
        };
        let fitted = known.row(in_file(known.fit_variants(variants).weight));
        let taught = in_file(known.fit(images).weight);
        let without_each = match images.len() {
            1 => vec![fitted.weight.clone()],
            _ => known.fit_variants_without_each(variants),
        };
        let (from_taught, from_fitted) = (row_distance(before, &taught), row_distance(before, &fitted.weight));
        let is_taught = from_taught <= from_fitted;
        let length = row_distance(before, &vec![0.0; before.len()]);
        let before_without_each = match images.len() {
            2.. if is_taught => known.fit_without_each(images),
            _ => without_each.clone(),
        };
        Self {
            fitted,
            without_each,
            before_without_each,
            is_same_fit: from_taught.min(from_fitted) <= SAME * length,
        }
    }
}

fn row_distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum()
}
