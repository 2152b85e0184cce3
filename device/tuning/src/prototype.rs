//! Prototype of a new class: class weights from the mean of its images' features.
//!
//! This is for adapters without class features (files before format version 3, and those for devices that do not learn);
//! others are taught as `fitted_class` describes.
//!
//! **Weights.** The mean feature of the class's images minus the mean feature of the old classes, scaled to the mean
//! length of the existing weights. The old classes' mean uses canaries, labelled images and frames, and each class
//! counts once. It is subtracted because most of a mean feature is common to all images.
//!
//! **Bias.** Each image of the class has a *gap*: its highest old logit minus the product of its features with the
//! class's weights, where the weights are fitted without that image. The bias is a quantile of these gaps, so the class
//! claims the corresponding fraction of its images. The quantile depends on the separation of the class from the task's
//! images ([`crate::separation`]). A class similar to a known one claims almost none of its images, because old images
//! would be lost. A class unlike all others claims all of its images, with a margin. The bias is then lowered until
//! every available image of an old class keeps its class and the canaries keep their probabilities. Measurements for
//! the constants: `docs/results/2026-11-29-teaching-a-class.md`.

use std::collections::BTreeMap;

use clr_adapters::{Adapter, Encoding, Recipe, quantised};
use clr_learning::{Network, argmax};
use clr_onnx::Backbone;

use crate::{
    AdapterRevision, Parent,
    class_bias::{BiasClaim, quantile},
    error::{Result, TuneError},
    examples::{Example, Examples},
    features::{canary_image, features, features_of, images, mean},
    profile::describe_class,
    separation::separation,
};

/// Maximum number of images of the class, and of all old classes together. Each needs one or two forward passes.
const MOST_IMAGES: usize = 256;
/// Probability that a canary's class may lose to all taught classes together: half of the tolerance of the canary
/// check.
const CANARY_MAY_LOSE: f64 = 0.01;

/// An adapter extended by new classes, with a report on each.
#[derive(Clone, Debug)]
pub struct Taught {
    /// The adapter and its file.
    pub revision: AdapterRevision,
    /// The new classes, sorted by label.
    pub classes: Vec<TaughtClass>,
}

/// Report on a new class.
#[derive(Clone, Debug, PartialEq)]
pub struct TaughtClass {
    /// The class.
    pub label: String,
    /// Images used.
    pub images: usize,
    /// Number of images that cannot be decoded.
    pub unreadable: usize,
    /// Number of images that the classifier recognises with weights fitted without the image itself.
    pub recognised: usize,
    /// The old class that most of the unrecognised images are predicted as, and the number of images predicted as it.
    pub looks_like: Option<(String, usize)>,
    /// Distance from the task's images, in standard deviations; `None` without a profile.
    pub separation: Option<f64>,
}

/// Extends the head by every label of `examples` that the adapter does not have, sorted by label. The parent's class
/// weights and biases do not change, so the old classes' logits stay bit-identical.
///
/// # Errors
/// [`TuneError::LooksAlike`] if none of a class's own images is assigned to it; [`TuneError::NoExamples`] if no image
/// has a label that the adapter lacks; [`TuneError::NothingReadable`] if no image of a class can be decoded;
/// [`TuneError::Examples`] if the images cannot be listed or read; [`TuneError::Learning`] if the network fails;
/// [`TuneError::Encode`] or [`TuneError::Decode`] if the adapter cannot be written to a file.
pub fn teach(backbone: &Backbone, parent: &Parent, examples: &dyn Examples) -> Result<Taught> {
    let header = &parent.adapter.header;
    let mut list = examples.list().map_err(TuneError::Examples)?;
    list.sort_by(|a, b| (&a.label, a.id).cmp(&(&b.label, b.id)));
    let known = |label: &Option<String>| label.as_ref().is_none_or(|label| header.labels.contains(label));
    let (old, new): (Vec<Example>, Vec<Example>) = list.into_iter().partition(|example| known(&example.label));
    if new.is_empty() {
        return Err(TuneError::NoExamples {
            task: header.task.clone(),
        });
    }
    let network = Network::from_adapter(backbone, &parent.adapter)?;
    // The profile describes features of the backbone without an adapter.
    let untouched = match &header.profile {
        Some(_) if !parent.adapter.sites.is_empty() => {
            let classes = header.labels.len();
            Some(Network::new(backbone, Recipe::Linear, classes, 0)?)
        }
        _ => None,
    };
    // Frames may show the new class. They stand for old images only where nothing else does.
    let old: Vec<Example> = match &header.class_features {
        Some(_) => old.into_iter().filter(|example| example.label.is_some()).collect(),
        None => old,
    };
    let mut teacher = Teacher::new(parent, &network)?;
    teacher.others = features(&network, &header.preprocessing, examples, &spread(&old))?;
    let mut classes = Vec::new();
    for class in new.chunk_by(|a, b| a.label == b.label) {
        let label = class[0].label.clone().unwrap_or_default();
        let class = spread(class);
        let readable = images(&header.preprocessing, examples, &class)?;
        let of = |network: &Network| -> Result<Vec<Vec<f32>>> {
            let all = readable.iter();
            all.map(|image| features_of(network, &header.preprocessing, image))
                .collect()
        };
        let own = of(&network)?;
        if own.is_empty() {
            return Err(TuneError::NothingReadable {
                label,
                images: class.len(),
            });
        }
        let separation = match &header.profile {
            Some(profile) => match &untouched {
                Some(untouched) => separation(profile, &of(untouched)?),
                None => separation(profile, &own),
            },
            None => None,
        };
        let mut taught = match teacher.adapter.header.class_features.clone() {
            Some(features) => teacher.extend_fitted(&features, &label, &own, separation)?,
            None => teacher.extend(&label, &own, separation)?,
        };
        taught.unreadable = class.len() - own.len();
        classes.push(taught);
        describe_class(&mut teacher.adapter, &network, &readable)?;
        teacher.others.extend(own);
    }
    teacher.adapter.header.metrics = None;
    teacher.restate_noise();
    Ok(Taught {
        revision: AdapterRevision::new(teacher.adapter, Some(parent))?,
        classes,
    })
}

/// Selects at most [`MOST_IMAGES`] examples at regular intervals.
fn spread(list: &[Example]) -> Vec<Example> {
    let step = list.len().div_ceil(MOST_IMAGES).max(1);
    list.iter().step_by(step).cloned().collect()
}

pub(crate) struct CanaryFeatures {
    pub(crate) features: Vec<f32>,
    class: usize,
    /// The probability stated in the adapter.
    probability: f64,
}

/// The adapter while it is being taught, and features of its known classes.
pub(crate) struct Teacher {
    encoding: Encoding,
    pub(crate) adapter: Adapter,
    /// Features of images of the publisher's and previously taught classes, and of frames.
    pub(crate) others: Vec<Vec<f32>>,
    pub(crate) canaries: Vec<CanaryFeatures>,
}

impl Teacher {
    /// Starts from `parent`, whose network is `network`, without images of its classes.
    pub(crate) fn new(parent: &Parent, network: &Network) -> Result<Self> {
        let header = &parent.adapter.header;
        let mut canaries = Vec::new();
        for canary in &header.canaries {
            if let Some(image) = canary_image(canary, &header.preprocessing) {
                canaries.push(CanaryFeatures {
                    features: features_of(network, &header.preprocessing, &image)?,
                    class: canary.class as usize,
                    probability: f64::from(canary.probability),
                });
            }
        }
        Ok(Self {
            encoding: parent.encoding,
            adapter: parent.adapter.clone(),
            others: Vec::new(),
            canaries,
        })
    }

    /// Adds the class with these features.
    fn extend(&mut self, label: &str, own: &[Vec<f32>], separation: Option<f64>) -> Result<TaughtClass> {
        let known = self.adapter.head.weight.len();
        let centre = self.centre();
        self.adapter.header.labels.push(label.to_owned());
        self.adapter.head.weight.extend(self.weights(&mean(own), &centre));
        self.adapter.head.bias.push(0.0);
        // The bias is fitted to the weights after quantisation, as they are in the file.
        let weights = quantised(&self.adapter, self.encoding)?.head.weight.split_off(known);
        self.adapter.head.weight.truncate(known);
        self.adapter.head.bias.pop();

        let mut held_out: Vec<f64> = match own {
            // A single image can only be tested with weights that were fitted to it.
            [only] => vec![self.gap(&weights, only)],
            _ => (0..own.len())
                .map(|index| self.gap(&self.weights_without(own, index, &centre), &own[index]))
                .collect(),
        };
        let gaps = held_out.clone();
        held_out.sort_by(f64::total_cmp);
        let claim = BiasClaim::of(separation, self.others.len());
        // The small constant makes the new class win where its logit would equal the highest old one.
        let wanted = quantile(&held_out, claim.share) + claim.margin * deviation(&held_out) + 1e-3;
        let bias = self.kept_below(&weights, wanted) as f32;
        let taught = self.report(label, own, &gaps, &weights, bias, separation)?;
        self.adapter.head.weight.extend(weights);
        self.adapter.head.bias.push(bias);
        Ok(taught)
    }

    /// Returns the report on a class with this row and bias, before it is added. `gaps` are those of its images, each by
    /// weights that were fitted without it.
    ///
    /// # Errors
    /// [`TuneError::LooksAlike`] if the row claims none of the class's images.
    pub(crate) fn report(
        &self,
        label: &str,
        own: &[Vec<f32>],
        gaps: &[f64],
        weights: &[f32],
        bias: f32,
        separation: Option<f64>,
    ) -> Result<TaughtClass> {
        let answered = |gap: f64| f64::from(bias) >= gap;
        if !own.iter().any(|x| answered(self.gap(weights, x))) {
            let (known, as_known) = self.looks_like(own.iter()).unwrap_or_default();
            return Err(TuneError::LooksAlike {
                label: label.to_owned(),
                known,
                as_known,
                images: own.len(),
            });
        }
        let unrecognised = own.iter().zip(gaps).filter(|&(_, &gap)| !answered(gap));
        Ok(TaughtClass {
            label: label.to_owned(),
            images: own.len(),
            unreadable: 0,
            recognised: gaps.iter().filter(|&&gap| answered(gap)).count(),
            looks_like: self.looks_like(unrecognised.map(|(x, _)| x)),
            separation,
        })
    }

    /// Returns the mean feature `[F]` of the old classes, in which each class with images or canaries counts once; zero
    /// if there are none.
    fn centre(&self) -> Vec<f64> {
        let mut groups: BTreeMap<usize, Vec<Vec<f32>>> = BTreeMap::new();
        for x in &self.others {
            groups.entry(argmax(&self.logits(x))).or_default().push(x.clone());
        }
        for canary in &self.canaries {
            groups.entry(canary.class).or_default().push(canary.features.clone());
        }
        let mut centre = vec![0.0; self.adapter.head.features];
        for group in groups.values() {
            let share = 1.0 / groups.len() as f64;
            centre
                .iter_mut()
                .zip(mean(group))
                .for_each(|(sum, mean)| *sum += share * mean);
        }
        centre
    }

    /// Returns the direction from `centre` to the class's mean, scaled to the mean length of the existing class
    /// weights.
    fn weights(&self, mean: &[f64], centre: &[f64]) -> Vec<f32> {
        let features = self.adapter.head.features.max(1);
        let length = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        let rows = self.adapter.head.weight.chunks_exact(features);
        let wanted = rows.map(length).sum::<f64>() / self.adapter.head.bias.len().max(1) as f64;
        let direction: Vec<f64> = mean.iter().zip(centre).map(|(mean, centre)| mean - centre).collect();
        let norm = direction
            .iter()
            .map(|value| value * value)
            .sum::<f64>()
            .sqrt()
            .max(1e-12);
        direction.iter().map(|value| (value / norm * wanted) as f32).collect()
    }

    /// Returns the weights that the class would have without one of its images. There must be at least two.
    fn weights_without(&self, own: &[Vec<f32>], left_out: usize, centre: &[f64]) -> Vec<f32> {
        let mut mean = mean(own);
        let others = (own.len() as f64 - 1.0).max(1.0);
        for (mean, &value) in mean.iter_mut().zip(&own[left_out]) {
            *mean += (*mean - f64::from(value)) / others;
        }
        self.weights(&mean, centre)
    }

    pub(crate) fn logits(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.adapter.head.weight.chunks_exact(self.adapter.head.features.max(1));
        rows.zip(&self.adapter.head.bias)
            .map(|(row, &bias)| (product(row, x) + f64::from(bias)) as f32)
            .collect()
    }

    /// Returns the highest logit minus the product with the new class's weights, which is the bias at which the image
    /// changes its class.
    pub(crate) fn gap(&self, weights: &[f32], x: &[f32]) -> f64 {
        let highest = self.logits(x).into_iter().fold(f32::NEG_INFINITY, f32::max);
        f64::from(highest) - product(weights, x)
    }

    /// Returns the highest bias, up to `wanted`, at which the class claims no image of another class, and takes at most
    /// the permitted probability from a canary.
    fn kept_below(&self, weights: &[f32], wanted: f64) -> f64 {
        let images = self.others.iter().map(|x| self.gap(weights, x) - 1e-3);
        let temperature = f64::from(self.adapter.header.temperature).max(1e-6);
        let canaries = self.canaries.iter().map(|canary| {
            let logits = self.logits(&canary.features);
            let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / temperature).collect();
            let all = log_sum(&scaled);
            let now = scaled.get(canary.class).map_or(0.0, |logit| (logit - all).exp());
            // If a canary's probability already differs from its stated value, only its class is protected.
            let taken = self.gap(weights, &canary.features) - 1e-3;
            if now + 1.5 * CANARY_MAY_LOSE < canary.probability {
                return taken;
            }
            // Losses to previously taught classes reduce what may still be lost.
            let left = (now - (canary.probability - CANARY_MAY_LOSE)).clamp(1e-6, CANARY_MAY_LOSE);
            let share = (left / now.max(1e-6)).min(CANARY_MAY_LOSE);
            let below = temperature * (all + (share / (1.0 - share)).ln()) - product(weights, &canary.features);
            below.min(taken)
        });
        images.chain(canaries).fold(wanted, f64::min)
    }

    /// Returns the old class that most of the images are predicted as, and the number of images predicted as it.
    fn looks_like<'a>(&self, images: impl Iterator<Item = &'a Vec<f32>>) -> Option<(String, usize)> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for x in images {
            *counts.entry(argmax(&self.logits(x))).or_default() += 1;
        }
        let (class, count) = counts.into_iter().max_by_key(|&(_, count)| count)?;
        Some((self.adapter.header.labels.get(class)?.clone(), count))
    }
}

pub(crate) fn product(row: &[f32], x: &[f32]) -> f64 {
    row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
}

fn log_sum(logits: &[f64]) -> f64 {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    highest + logits.iter().map(|logit| (logit - highest).exp()).sum::<f64>().ln()
}

pub(crate) fn deviation(values: &[f64]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}
