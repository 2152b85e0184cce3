//! Description of preprocessing, which `clr-onnx` executes in training and on the device alike.

use serde::{Deserialize, Serialize};

/// Method of fitting an image of any size to the input size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fit {
    /// Scale both sides independently, without keeping the aspect ratio, as in the paper.
    Stretch,
    /// Scale the shorter side to `size / fraction`, then crop the centre (`0 < fraction ≤ 1`; `ImageNet` evaluation
    /// uses 0.875).
    CenterCrop {
        /// The side of the crop as a fraction of the scaled shorter side.
        fraction: f32,
    },
}

/// The resampling filter, antialiased when shrinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Filter {
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom cubic filter.
    Bicubic,
}

/// The order of the three colour planes in the input tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// Preprocessing of an 8-bit RGB image to the input tensor `[1, 3, height, width]`: fit to the size, order the
/// channels, then `(value − mean) / std` per channel, with values in 0–255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Input height in pixels.
    pub height: u32,
    /// Input width in pixels.
    pub width: u32,
    /// Fitting of the image to that size.
    pub fit: Fit,
    /// The resampling filter.
    pub filter: Filter,
    /// The order of the colour planes.
    pub channel_order: ChannelOrder,
    /// Mean of each channel, in 0–255, in the order of `channel_order`. It is subtracted.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, in 0–255, in the order of `channel_order`. The difference is divided by it.
    pub std: [f32; 3],
}
