//! Candidate adapters at the end of a run.
//!
//! The first candidate has site weights interpolated between the parent's and the tuned ones, and class weights
//! refitted to the resulting features. At half interpolation, fewer results on old classes change than with the tuned
//! sites, and the refitted weights recognise the new class equally well (weight interpolation, Wortsman et al. 2022;
//! `docs/reference/tuning.md`).
//!
//! If the first candidate is not promoted, the second one has the parent's sites, and class weights refitted to these.
//! Its logits of old classes are bit-identical to the parent's, and all images may test it by cross-validation.
//!
//! The third one is like the second, but its class weights are refitted against the adapter's class features
//! (`class_features`). It needs no image of the old classes.

use std::fmt;

use clr_adapters::{Adapter, Digest, Metrics, SiteWeights};
use clr_learning::{Network, argmax, log_probability};

use super::{
    Observer,
    bias_calibration::MAY_TAKE,
    reference::{FeatureExtractor, ReferenceOutput, ReferenceOutputs, head_logits},
};
use crate::{AdapterRevision, Comparison, Parent, TuneOptions, comparison::Pair, error::Result, promote::Evidence};

/// Minimum number of training images of old classes for refitting class weights to them.
pub(super) const ENOUGH: usize = 20;

/// The kind of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CandidateKind {
    /// Interpolated sites, refitted class weights.
    SitesAndHead,
    /// The parent's sites, class weights refitted to images of the old classes.
    HeadOnly,
    /// The parent's sites, class weights refitted against class features.
    ClassFeatures,
}

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SitesAndHead => "tuned sites",
            Self::HeadOnly => "new class weights alone",
            Self::ClassFeatures => "new class weights by class features",
        })
    }
}

/// A candidate adapter and the evidence for its verdict.
pub(super) struct Candidate {
    /// The adapter before quantisation, without metrics.
    adapter: Adapter,
    pub(super) evidence: Evidence,
    /// Number of training images.
    training: usize,
    /// Number of correct results before quantisation on the held-out images of the taught classes; `None` if the sites
    /// are those of the parent's file.
    exact_hits: Option<u32>,
    /// Class and probability of each canary.
    canaries: Vec<(u32, f32)>,
}

impl Candidate {
    /// Encodes the adapter with metrics from its comparison on the taught classes.
    pub(super) fn finished(
        mut self,
        parent: &Parent,
        learned: &Comparison,
        data: &Digest,
        options: &TuneOptions,
    ) -> Result<AdapterRevision> {
        let share = |hits: u32| hits as f32 / learned.images as f32;
        self.adapter.header.metrics = (learned.images > 0).then(|| Metrics {
            accuracy: share(self.exact_hits.unwrap_or(learned.tuned)),
            quantised_accuracy: share(learned.tuned),
            validation_images: learned.images,
            training_images: self.training as u32,
            data: *data,
            seed: options.seed,
            created: options.created,
        });
        for (canary, stated) in self.adapter.header.canaries.iter_mut().zip(self.canaries) {
            (canary.class, canary.probability) = stated;
        }
        AdapterRevision::new(self.adapter, Some(parent))
    }
}

/// Pairs for one image: the index of a new class, and the image's logit for that class. The logit is computed with
/// class weights fitted without the image.
pub(super) type HeldOutLogits = Vec<(usize, f32)>;

pub(super) struct CandidateBuilder<'a> {
    pub(super) parent: &'a Parent,
    pub(super) options: &'a TuneOptions,
    /// The parent's network.
    pub(super) reference: &'a Network,
    pub(super) extractor: FeatureExtractor<'a>,
    pub(super) outputs: ReferenceOutputs<'a>,
}

impl CandidateBuilder<'_> {
    /// Returns the new classes that have images.
    pub(super) fn classes(&self) -> Vec<usize> {
        let learned = self.outputs.learned.iter().map(|output| output.class);
        let mut classes: Vec<usize> = learned.filter(|&class| class >= self.parent.protected).collect();
        classes.sort_unstable();
        classes.dedup();
        match self.parent.protected {
            0 => Vec::new(),
            _ => classes,
        }
    }

    /// Returns the kind of the first candidate, and those to try if it is not promoted.
    pub(super) fn kinds(&self, has_steps: bool) -> (CandidateKind, Vec<CandidateKind>) {
        if !has_steps {
            return (CandidateKind::ClassFeatures, Vec::new());
        }
        let head_only = self.fits_head().then_some(CandidateKind::HeadOnly);
        let known = self.knows_classes().then_some(CandidateKind::ClassFeatures);
        (
            CandidateKind::SitesAndHead,
            head_only.into_iter().chain(known).collect(),
        )
    }

    /// Returns whether there are enough images to refit class weights, as the second candidate requires.
    pub(super) fn fits_head(&self) -> bool {
        let replayed = self.outputs.replayed.iter().filter(|output| !output.held).count();
        !self.classes().is_empty() && replayed >= ENOUGH
    }

    /// Builds a candidate of the given kind from `stepped`, the adapter after the last step.
    pub(super) fn build(
        &self,
        kind: CandidateKind,
        stepped: &Adapter,
        observer: &mut dyn Observer,
    ) -> Result<Candidate> {
        let classes = self.classes();
        let mut adapter = match kind {
            CandidateKind::SitesAndHead => stepped.clone(),
            CandidateKind::HeadOnly | CandidateKind::ClassFeatures => self.parent.adapter.clone(),
        };
        adapter.header.metrics = None;
        if kind == CandidateKind::SitesAndHead && !classes.is_empty() {
            interpolate(&self.parent.adapter, &mut adapter, self.options.interpolation);
        }
        let outputs = &self.outputs;
        let [learned, replayed, canaries] = match kind {
            CandidateKind::SitesAndHead => {
                let file = clr_adapters::quantised(&adapter, self.parent.encoding)?;
                let network = self.reference.sibling_from_adapter(&file)?;
                [
                    self.extractor.features_of_all(&network, &outputs.learned, observer)?,
                    self.extractor.features_of_all(&network, &outputs.replayed, observer)?,
                    self.extractor.features_of_all(&network, &outputs.canaries, observer)?,
                ]
            }
            CandidateKind::HeadOnly | CandidateKind::ClassFeatures => {
                [&outputs.learned, &outputs.replayed, &outputs.canaries]
                    .map(|outputs| outputs.iter().map(|output| output.features.clone()).collect())
            }
        };
        let mut held_out_logits: Vec<HeldOutLogits> = vec![Vec::new(); learned.len() + replayed.len()];
        let mut left_out = vec![false; replayed.len()];
        let mut of_parent = vec![HeldOutLogits::new(); learned.len()];
        let mut known = self.moved_class_features(kind, [&learned, &replayed]);
        let (mut predicted, mut is_same_fit) = (None, false);
        if let (CandidateKind::ClassFeatures, Some(known)) = (kind, &mut known) {
            let (held_out, loss) = self.refit_known(&mut adapter, known, observer)?;
            held_out_logits[..learned.len()].clone_from_slice(&held_out.tuned);
            (of_parent, is_same_fit, predicted) = (held_out.parent, held_out.is_same_fit, Some(loss));
        } else if self.fits_head() {
            for &class in &classes {
                let share = MAY_TAKE / classes.len() as f64;
                self.refit(
                    kind,
                    &mut adapter,
                    class,
                    share,
                    [&learned, &replayed],
                    &mut held_out_logits,
                    &mut left_out,
                )?;
            }
        }
        adapter.header.class_features = known;
        let file = AdapterRevision::new(adapter.clone(), Some(self.parent))?.adapter;
        let pair = |output: &ReferenceOutput<'_>, features: &[f32], held_out_logits: &HeldOutLogits| {
            let mut tuned = head_logits(&file, features);
            for &(class, logit) in held_out_logits {
                tuned[class] = logit;
            }
            Pair {
                class: output.class,
                parent: output.logits.clone(),
                tuned,
            }
        };
        let (of_learned, of_replayed) = held_out_logits.split_at(learned.len());
        let none = HeldOutLogits::new();
        // Training images may only test candidates with the parent's sites, which do not depend on the steps.
        let judges = |output: &ReferenceOutput<'_>| output.held || kind != CandidateKind::SitesAndHead;
        let mut evidence = Evidence {
            head_only: kind != CandidateKind::SitesAndHead,
            predicted,
            is_same_fit,
            ..Evidence::default()
        };
        let all_learned = outputs.learned.iter().zip(&learned).zip(of_learned).zip(&of_parent);
        for (((output, features), held_out_logits), of_parent) in all_learned {
            // Images that a class has beyond those of the fit do not test it.
            if judges(output) && (kind != CandidateKind::ClassFeatures || !held_out_logits.is_empty()) {
                let mut pair = pair(output, features, held_out_logits);
                for &(class, logit) in of_parent {
                    pair.parent[class] = logit;
                }
                evidence.learned.push(pair);
            }
        }
        let kept = outputs.replayed.iter().zip(&replayed).zip(of_replayed).zip(&left_out);
        for ((output, features), held_out_logits) in kept.filter(|(_, left_out)| !*left_out).map(|(kept, _)| kept) {
            if judges(output) {
                evidence.old.push(pair(output, features, held_out_logits));
            }
            if judges(output) || !held_out_logits.is_empty() {
                evidence.taken.push(pair(output, features, held_out_logits));
            }
        }
        let temperature = f64::from(file.header.temperature);
        let mut stated = Vec::with_capacity(canaries.len());
        for ((output, features), canary) in outputs.canaries.iter().zip(&canaries).zip(&file.header.canaries) {
            let pair = pair(output, features, &none);
            // A noise image says nothing about the old classes. It states what the result answers, as after `teach`.
            let class = canary.seed.map_or(pair.class, |_| argmax(&pair.tuned));
            let probability = log_probability(&pair.tuned, class, temperature).exp() as f32;
            stated.push((class as u32, probability));
            if canary.seed.is_none() {
                evidence.canaries += 1;
                evidence.old.push(pair.clone());
                evidence.taken.push(pair);
            }
        }
        let exact_hits = match kind {
            CandidateKind::HeadOnly | CandidateKind::ClassFeatures => None,
            CandidateKind::SitesAndHead => {
                let network = self.reference.sibling_from_adapter(&adapter)?;
                let mut hits = 0;
                for output in outputs.learned.iter().filter(|output| output.held) {
                    let features = self.extractor.features(&network, output.image, observer)?;
                    hits += u32::from(argmax(&head_logits(&adapter, &features)) == output.class);
                }
                Some(hits)
            }
        };
        let made =
            |outputs: &[ReferenceOutput<'_>], all: bool| outputs.iter().filter(|output| all || !output.held).count();
        Ok(Candidate {
            adapter,
            evidence,
            training: made(&outputs.learned, kind != CandidateKind::SitesAndHead)
                + match kind {
                    CandidateKind::ClassFeatures => 0,
                    _ => made(&outputs.replayed, self.fits_head()),
                },
            exact_hits,
            canaries: stated,
        })
    }
}

fn interpolate(parent: &Adapter, adapter: &mut Adapter, interpolation: f32) {
    let part = |from: &[f32], to: &mut [f32]| {
        (to.iter_mut().zip(from)).for_each(|(to, &from)| *to = from + interpolation * (*to - from));
    };
    for (from, to) in parent.sites.iter().zip(&mut adapter.sites) {
        part(&from.bias, &mut to.bias);
        match (&from.weights, &mut to.weights) {
            (SiteWeights::Scale(from), SiteWeights::Scale(to))
            | (SiteWeights::Kernel(from), SiteWeights::Kernel(to)) => {
                part(from, to);
            }
            _ => {}
        }
    }
}
