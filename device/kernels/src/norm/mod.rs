//! Normalisations that depend on the image: over the channels of a pixel, over groups of channels, global response.
//!
//! Scales and biases come in blocks of sixteen, `[⌈C / 16⌉, 16]`, zero beyond the channels. Lanes of a value beyond the
//! channels are not read and are written as zero. Gradients compute the statistics again.

mod group;
mod layer;
mod response;
mod sums;
#[cfg(test)]
mod tests;

pub use group::{GroupNorm, group_norm, group_norm_gradient};
pub use layer::{LayerNorm, layer_norm, layer_norm_gradient};
pub use response::{ResponseNorm, global_response_norm, global_response_norm_gradient};
