//! Normalisations with image-dependent statistics: layer, group and global response normalisation.
//!
//! Scales and biases are in blocks of sixteen, `[⌈C / 16⌉, 16]`, with zeros beyond the channels. The lanes of a value
//! beyond the channels are not read and are written as zero. Gradients recompute the statistics.

mod group;
mod layer;
mod response;
mod sums;
#[cfg(test)]
mod tests;

pub use group::{GroupNorm, group_norm, group_norm_gradient};
pub use layer::{LayerNorm, layer_norm, layer_norm_gradient};
pub use response::{ResponseNorm, global_response_norm, global_response_norm_gradient};
