//! Operators of a network whose weights are trained, in candle.
//!
//! On the CPU, convolutions, norms and clamps have kernels of this crate, because candle's own need many passes and
//! run a grouped convolution as one convolution per group. On a GPU they run in candle's operations.
//!
//! All maps are NCHW f32. Results do not depend on the number of threads.
#![expect(
    clippy::inline_always,
    reason = "loops are compiled for the instructions of the function that they are part of"
)]

mod activation;
mod batch_norm;
mod convolution;
mod matrix;
mod planes;
mod slices;
mod vectors;

pub use activation::activation;
pub use batch_norm::batch_norm;
pub use convolution::{conv, conv_weight_gradient};
pub use planes::{add_bias, scale_planes};
