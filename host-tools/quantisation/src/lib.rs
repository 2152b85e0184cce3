//! Quantisation of backbones to int8, with calibration images.
//!
//! [`quantise`] runs the float backbone over the images to observe ranges, rounds weights and values, corrects the biases,
//! and measures the error on held-out images. If the error is too large, it returns the layers that cause most of it to
//! float, and refuses the backbone if this does not suffice.
#![forbid(unsafe_code)]

mod calibrate;
mod correct;
mod error;
mod evaluate;
mod fallback;
mod images;
mod loss;
mod observe;
mod options;
mod progress;
mod quantise;
mod selection;
#[cfg(test)]
mod tests;

pub use calibrate::Clipped;
pub use correct::Correction;
pub use error::QuantisationError;
pub use images::Images;
pub use loss::Loss;
pub use options::QuantiseOptions;
pub use progress::{Progress, Stage};
pub use quantise::{Quantised, quantise};
pub use selection::Selection;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
