//! Kernels for training: gradients of the input of every step, and of the parameters that a task trains.
//!
//! Images are processed one at a time. With fixed statistics they are independent of each other, so the values and
//! gradients of one image stay in the cache and determine the total memory.

mod activation;
mod affine;
mod channels;
mod clr;
mod convolution;
mod elementwise;
mod pixels;
mod pool;
#[cfg(test)]
mod tests;

pub use activation::activation_gradient;
pub use affine::{affine_forward, affine_gradient, clamp_gradient};
pub use channels::{channel_conv_gradient, softmax_groups_gradient};
pub use clr::{clr_forward, clr_gradient};
pub use convolution::ConvGradient;
pub use elementwise::{accumulate, binary_gradient, prelu_gradient};
pub use pool::{global_average_gradient, pool_gradient};
