//! Continual learning: methods that learn several tasks in turn on one backbone, under one protocol.
//!
//! A [`NetworkLearner`] trains a [`Model`] by a [`Method`]. The methods are in [`methods`], one file each.

mod adapter_learner;
mod buffer;
mod error;
mod gradients;
mod images;
mod joint;
mod learner;
mod loss;
mod memory;
pub mod methods;
mod metrics;
mod model;
mod network;
mod network_learner;
pub mod ops;
mod optimiser;
mod random;
pub mod registry;
pub mod report;
pub mod run;
mod saved;
mod task;
mod task_data;

pub use adapter_learner::AdapterLearner;
pub use buffer::{Buffer, Stored};
pub use candle_core::Device;
pub use error::{ContinualError, Result};
pub use gradients::{Vectors, gradients, set_values, values};
pub use images::{Example, Images};
pub use joint::JointLearner;
pub use learner::{Cost, Learner, LearnerOptions, correct};
pub use loss::{cross_entropies, cross_entropy, distillation, log_softmax};
pub use memory::keep_freed_memory;
pub use methods::{Method, Trained};
pub use metrics::{AccuracyMatrix, mean, standard_deviation};
pub use model::{Head, Model};
pub use network::{ConvLayer, Features, Mode, NoTransform, Norms, RunningStatistics, Structure, Transform, Weights};
pub use network_learner::NetworkLearner;
pub use optimiser::{Optimiser, OptimiserKind};
pub use random::{Purpose, stream};
pub use saved::{Kept, KeptImage};
pub use task::{AUGMENTATION, Batch, Task};
pub use task_data::{ImageLimits, TaskData};

#[cfg(test)]
mod tests;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
