//! Continual learning: methods that learn several tasks in turn on one backbone, under one protocol.
//!
//! A [`Learner`] trains a [`Model`] by a [`Method`]. The methods are in [`methods`], one file each.

mod buffer;
mod error;
mod gradients;
mod images;
mod learner;
mod loss;
pub mod methods;
mod model;
mod network;
pub mod ops;
mod optimiser;
mod random;
mod task;

pub use buffer::{Buffer, Stored};
pub use error::{ContinualError, Result};
pub use gradients::{Vectors, gradients, set_values, values};
pub use images::{Example, Images};
pub use learner::{Learner, LearnerOptions};
pub use loss::{cross_entropies, cross_entropy, distillation, log_softmax};
pub use methods::{Method, Trained};
pub use model::{Head, Model};
pub use network::{ConvLayer, Features, Mode, NoTransform, Norms, RunningStatistics, Structure, Transform, Weights};
pub use optimiser::{Optimiser, Rule};
pub use random::{Purpose, stream};
pub use task::{Batch, Task};

#[cfg(test)]
mod tests;
