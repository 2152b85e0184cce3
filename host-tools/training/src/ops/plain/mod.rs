//! The operators in plain candle, as a slow and simple reference.

mod activation;
mod convolution;
mod norm;
mod pool;
mod taps;

pub(super) use activation::{activation, prelu};
pub(super) use convolution::{convolution, depthwise};
pub(super) use norm::{affine, batch_norm};
pub(super) use pool::{average_pool, max_pool};
