//! Trainable parameters with their names, groups, anchors and rate factors, and snapshots of all values.

use std::borrow::Cow;

use clr_adapters::StepSize;

/// Group of a parameter. Each group has its own rate and decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The classifier.
    Head,
    /// Scales and biases of norms, and of folded scale sites and biases.
    Norm,
    /// CLR kernels, and the 1×1 kernels of `clr-scale`.
    Kernel,
}

/// A trained parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The name, such as `layer1.0.conv1.kernel` or `head.weight`.
    pub name: String,
    /// Its group.
    pub group: Group,
    /// Row-major values: `[K, F]` and `[K]` for the head, `[C, 3, 3]` or `[C]` for a site.
    pub values: Vec<f32>,
    /// Target of the decay: the identity, the backbone's norm, or zero for the head.
    pub anchor: Vec<f32>,
    /// Factor on the rate, per channel (the leading dimension) or one for all: the parameter's initial magnitude.
    pub unit: Vec<f32>,
}

/// Values of all parameters and statistics at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The head, then the weights of all sites in order, then mean and variance of each site with a norm.
    pub values: Vec<Vec<f32>>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Row-major.
    pub values: Vec<f32>,
    /// Whether the weight gets a gradient.
    pub trained: bool,
    /// Step to whose multiples the forward pass rounds the values; `None` if it uses them as they are.
    pub step: Option<StepSize>,
}

impl Weight {
    pub(crate) fn new(values: Vec<f32>) -> Self {
        Self {
            values,
            trained: true,
            step: None,
        }
    }

    /// Returns the values as the forward pass uses them.
    pub fn rounded(&self) -> Cow<'_, [f32]> {
        match self.step {
            None => Cow::Borrowed(&self.values),
            Some(step) => Cow::Owned(step.round(&self.values)),
        }
    }
}

/// Weights of a site, each with its part of the name and its group.
pub(crate) type Weights<T> = Vec<(&'static str, Group, T)>;

/// Returns magnitudes as rate factors. Channels near zero get a twentieth of the mean.
pub(crate) fn magnitudes(values: &[f32]) -> Vec<f32> {
    let mean = values.iter().map(|value| value.abs()).sum::<f32>() / values.len().max(1) as f32;
    let least = (0.05 * mean).max(1e-6);
    values.iter().map(|value| value.abs().max(least)).collect()
}

/// Returns the magnitudes of kernels `[C, …]`, according to their largest value.
pub(crate) fn kernel_magnitudes(weight: &Weight, channels: usize) -> Vec<f32> {
    let taps = (weight.values.len() / channels.max(1)).max(1);
    let peak = |kernel: &[f32]| kernel.iter().fold(0.0, |peak: f32, value| peak.max(value.abs()));
    magnitudes(&weight.values.chunks(taps).map(peak).collect::<Vec<_>>())
}
