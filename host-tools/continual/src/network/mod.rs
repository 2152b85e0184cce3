//! A backbone as a network whose weights are all trained.
//!
//! [`Structure`] is what the graph computes, without values. [`Weights`] are its convolutions and dense layers,
//! [`Norms`] a set of scales, biases and statistics of its batch norms: one set for all tasks, or one per task. A
//! [`Transform`] changes what a forward pass does around each convolution.

mod forward;
mod norms;
mod structure;
mod transform;
mod weights;

pub use forward::{Features, Mode};
pub use norms::{Norms, RunningStatistics};
pub use structure::{ConvLayer, Structure};
pub use transform::{NoTransform, Transform};
pub use weights::Weights;
pub(crate) use weights::copied;
