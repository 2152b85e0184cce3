//! An adapter in memory: everything one task adds to a frozen backbone, with the norm folded in.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{Digest, Preprocessing, Profile, Recipe};

/// One task: header, reprogrammed sites in the backbone's order, and the head.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// What the adapter is for and where it comes from.
    pub header: Header,
    /// The reprogrammed sites only, in the backbone's site order; empty for [`Recipe::Linear`].
    pub sites: Vec<Site>,
    /// The task's classifier.
    pub head: Head,
}

/// What stands behind one convolution, with the task's norm folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The convolution's name in the backbone.
    pub name: String,
    /// What multiplies the convolution's bias-free output.
    pub weights: SiteWeights,
    /// `[C]`, added after the kernel or scale, so the zero padding is of the bias-free feature map.
    pub bias: Vec<f32>,
}

/// The multiplying part of a [`Site`].
#[derive(Clone, Debug, PartialEq)]
pub enum SiteWeights {
    /// `[C]`: one factor per channel.
    Scale(Vec<f32>),
    /// `[C, 3, 3]`: one 3×3 kernel per channel, stride 1, zero padding 1.
    Kernel(Vec<f32>),
}

/// The task's classifier on the pooled features: `logits = weight · features + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Number of input features.
    pub features: usize,
    /// `[classes, features]`, row-major.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
}

impl Head {
    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.bias.len()
    }
}

impl Site {
    /// Number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.bias.len()
    }
}

/// Everything about an adapter that is not a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The task's name, e.g. `birds`.
    pub task: String,
    /// One label per class, in logit order.
    pub labels: Vec<String>,
    /// The digest of the backbone that this adapter fits.
    pub backbone: Digest,
    /// Which sites are reprogrammed.
    pub recipe: Recipe,
    /// How an image becomes the input.
    pub preprocessing: Preprocessing,
    /// Monotonic per task, from 1.
    pub version: u64,
    /// The digest of the adapter file this one was derived from.
    pub parent: Option<Digest>,
    /// Who learned it.
    pub provenance: Provenance,
    /// How well it did when it was written.
    pub metrics: Option<Metrics>,
    /// Tiny inputs with their expected answers, to be tried before the adapter serves.
    pub canaries: Vec<Canary>,
    /// Which tuning on a device this is, on top of `version`; 0 for what a publisher made.
    pub revision: u32,
    /// Seconds since 1970-01-01 UTC from which on a device must not install it.
    pub expires: Option<u64>,
    /// Logits are divided by this before the softmax, so that a probability is how often the answer is right
    /// (temperature scaling, Guo et al. 2017). Above 0; 1 where it was not fitted.
    pub temperature: f32,
    /// What it has to fulfil on trial; the device's own bounds where `None`.
    pub trial: Option<Trial>,
    /// How far probabilities were off on the validation split, before and after the temperature.
    pub calibration: Option<Calibration>,
    /// What its training images look like to the untouched backbone; without it, nothing can choose the task by a
    /// image alone.
    pub profile: Option<Profile>,
}

impl Header {
    /// A first version with the recipe [`Recipe::Linear`], no parent, no metrics, no canaries, temperature 1.
    #[must_use]
    pub fn new(
        task: impl Into<String>,
        labels: Vec<String>,
        backbone: Digest,
        preprocessing: Preprocessing,
        provenance: Provenance,
    ) -> Self {
        Self {
            task: task.into(),
            labels,
            backbone,
            recipe: Recipe::Linear,
            preprocessing,
            version: 1,
            parent: None,
            provenance,
            metrics: None,
            canaries: Vec::new(),
            revision: 0,
            expires: None,
            temperature: 1.0,
            trial: None,
            calibration: None,
            profile: None,
        }
    }
}

/// Expected calibration errors on the validation split, in 0–1: the mean distance between the probability of the best
/// class and the share of images for which it is right, over 15 bins of equal width (Naeini et al. 2015).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Of a softmax of the logits themselves.
    pub before: f32,
    /// Of a softmax of the logits divided by the header's temperature.
    pub after: f32,
}

/// The bounds within which an adapter must serve its first frames to be confirmed. Logits must be finite in any case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Good frames after which it is confirmed.
    pub frames: u32,
    /// Milliseconds that a frame may take from image to answer; more than this in a tenth of the frames ends the trial.
    pub max_latency_ms: Option<u32>,
    /// A frame whose best class is less probable than this counts as one of low confidence.
    pub low_confidence: f32,
    /// The share of frames of low confidence, 0–1, beyond which the trial ends.
    pub max_low_share: f32,
}

/// Who learned an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Provenance {
    /// The backbone's own classifier, taken over at import.
    Imported,
    /// Trained by the host tool.
    HostTrained,
    /// Tuned on a device.
    DeviceTuned,
}

/// How an adapter did on the validation split when it was written. Accuracies are fractions in 0–1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Validation top-1 in full precision.
    pub accuracy: f32,
    /// Validation top-1 of the file's own, quantised weights.
    pub quantised_accuracy: f32,
    /// Number of validation images.
    pub validation_images: u32,
    /// Number of training images.
    pub training_images: u32,
    /// Digest over the training data (sorted relative paths and contents).
    pub data: Digest,
    /// The random seed.
    pub seed: u64,
    /// Seconds since 1970-01-01 UTC.
    pub created: u64,
}

/// A tiny input with its expected answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Width and height of the image in pixels.
    pub size: [u16; 2],
    /// RGB, 8 bits, row-major, `3 · width · height` bytes.
    pub pixels: Vec<u8>,
    /// Index of the expected class.
    pub class: u32,
    /// The expected probability of that class.
    pub probability: f32,
}
