//! Adapter in memory: the parameters of one task for a frozen backbone, with folded norms.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{ClassFeatures, Digest, Preprocessing, Profile, Recipe, SiteSteps, StepSize, Steps};

/// One task: header, reprogrammed sites in the backbone's order, and the head.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Purpose, origin and preprocessing.
    pub header: Header,
    /// The reprogrammed sites only, in the backbone's site order; empty for [`Recipe::Linear`].
    pub sites: Vec<Site>,
    /// The task's classifier.
    pub head: Head,
}

/// Parameters after one convolution, with the task's norm folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The convolution's name in the backbone. `None` in an adapter read from a file of format version 3, which counts
    /// its sites from the backbone's last one.
    pub name: Option<String>,
    /// Multiplies the convolution's bias-free output.
    pub weights: SiteWeights,
    /// `[C]`, added after the kernel or scale, so that the zero padding applies to the bias-free feature map.
    pub bias: Vec<f32>,
    /// Steps of the values if weights and bias are differences from the backbone's own norm, in multiples of these
    /// steps ([`FoldedNorm`](crate::FoldedNorm)); `None` if they are absolute.
    pub steps: Option<SiteSteps>,
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
    /// Returns the number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Returns the largest step of at most `fraction` of the weight's root mean square.
    #[must_use]
    pub fn step(&self, fraction: f64) -> StepSize {
        let squares: f64 = self
            .weight
            .iter()
            .map(|&value| f64::from(value) * f64::from(value))
            .sum();
        StepSize::at_most(fraction * libm::sqrt(squares / self.weight.len().max(1) as f64))
    }
}

impl Site {
    /// Returns the number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.bias.len()
    }
}

/// All fields of an adapter except the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The task's name, e.g. `birds`.
    pub task: String,
    /// One label per class, in logit order.
    pub labels: Vec<String>,
    /// The digest of the backbone that this adapter fits.
    pub backbone: Digest,
    /// The recipe, which determines the reprogrammed sites.
    pub recipe: Recipe,
    /// Preprocessing of images.
    pub preprocessing: Preprocessing,
    /// Version of the task's adapter. It starts at 1 and increases with every release.
    pub version: u64,
    /// The digest of the adapter file this one was derived from.
    pub parent: Option<Digest>,
    /// Origin of the adapter.
    pub provenance: Provenance,
    /// Metrics at the time of writing.
    pub metrics: Option<Metrics>,
    /// Small inputs with their expected results, checked before the adapter serves.
    pub canaries: Vec<Canary>,
    /// Number of tunings on a device since `version`; 0 for an adapter from a publisher.
    pub revision: u32,
    /// Expiry, in seconds since 1970-01-01 UTC: from this time on, a device refuses to install the adapter.
    pub expires: Option<u64>,
    /// Temperature: divides the logits before the softmax, so that probabilities match accuracies (temperature scaling,
    /// Guo et al. 2017). Above 0; 1 if it was not fitted.
    pub temperature: f32,
    /// Bounds of the adapter's trial; `None` selects the device's default bounds.
    pub trial: Option<Trial>,
    /// Calibration errors on the validation split, before and after temperature scaling.
    pub calibration: Option<Calibration>,
    /// Profile of the training images in the features of the unmodified backbone. Required for selecting the task from
    /// an image.
    pub profile: Option<Profile>,
    /// Features of the classes, for learning without old images; `None` in a file for devices that do not learn, and
    /// before format version 3.
    pub class_features: Option<ClassFeatures>,
    /// Steps of the head's and the profile's values in a file of format version 3; `None` if they are f32.
    pub steps: Option<Steps>,
}

impl Header {
    /// Creates a header of version 1 with the recipe [`Recipe::Linear`], no parent, metrics or canaries, and
    /// temperature 1.
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
            class_features: None,
            steps: None,
        }
    }
}

/// Expected calibration errors on the validation split, in 0–1: the mean distance between the probability of the best
/// class and the fraction of images for which it is correct, over 15 bins of equal width (Naeini et al. 2015).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Error of the softmax of the logits.
    pub before: f32,
    /// Error of the softmax of the logits divided by the header's temperature.
    pub after: f32,
}

/// Bounds on an adapter's first frames, which must hold for its confirmation. Logits must be finite in any case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Number of frames within the bounds after which the adapter is confirmed.
    pub frames: u32,
    /// Maximum latency of a frame in milliseconds. The trial fails if a tenth of the frames exceed it.
    pub max_latency_ms: Option<u32>,
    /// Probability of the best class below which a frame has low confidence.
    pub low_confidence: f32,
    /// Maximum fraction of low-confidence frames, 0–1. The trial fails above it.
    #[serde(rename = "max_low_share")]
    pub max_low_confidence_fraction: f32,
}

/// Origin of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Provenance {
    /// The backbone's original classifier, extracted at import.
    Imported,
    /// Trained by the host tool.
    HostTrained,
    /// Tuned on a device.
    DeviceTuned,
}

/// Metrics of an adapter on the validation split at the time of writing. Accuracies are fractions in 0–1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Validation top-1 accuracy in full precision.
    pub accuracy: f32,
    /// Validation top-1 accuracy of the file's quantised weights.
    pub quantised_accuracy: f32,
    /// Number of validation images.
    pub validation_images: u32,
    /// Number of training images.
    pub training_images: u32,
    /// Digest of the training data (sorted relative paths and contents).
    pub data: Digest,
    /// The random seed.
    pub seed: u64,
    /// Time of writing, in seconds since 1970-01-01 UTC.
    pub created: u64,
}

/// A small input with its expected result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Width and height of the image in pixels.
    pub size: [u16; 2],
    /// RGB, 8 bits, row-major, `3 · width · height` bytes.
    pub pixels: Vec<u8>,
    /// The seed that the pixels were drawn from ([`noise_image`](crate::noise_image)). A file of format version 3
    /// stores it in place of the pixels.
    pub seed: Option<u64>,
    /// Index of the expected class.
    pub class: u32,
    /// The expected probability of that class.
    pub probability: f32,
}
