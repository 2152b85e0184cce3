//! Training of adapters on a CPU: sites, head, losses and optimisers on the runtime's backward pass.
//!
//! A [`Network`] is a frozen backbone with one task's sites and head. [`Network::forward_backward`] computes the
//! gradients of a batch, [`Adam`] computes new values from them, and [`Network::set_values`] sets these. The images of
//! a batch are processed in parallel. Results are bit-identical for any number of threads.
//!
//! Images are preprocessed, `[3, H, W]`; features are `[F]`, logits `[K]`, all f32.
#![forbid(unsafe_code)]

mod adam;
mod adapter;
mod augment;
mod background;
mod batch;
mod check;
mod class_features;
mod classifier;
mod difference;
mod ema;
mod error;
mod folded_site;
mod frozen_backbone;
mod lbfgs;
mod logistic;
mod loss;
mod memory;
mod network;
mod norm;
mod orthogonal;
mod parameter;
mod random;
mod rounding;
mod row_fit;
mod schedule;
mod site;
mod statistics;
mod step;
mod taught_class;

pub use adam::{Adam, AdamOptions, AdamState, PerGroup};
pub use augment::{Augmentation, Flip, mirror};
pub use background::learn_background;
pub use class_features::{CLASS_FEATURES_STEP, learn_class_features};
pub use clr_runtime::{ChannelStatistics, FeaturePass, Footprint, PrefixActivations};
pub use difference::DifferenceSite;
pub use ema::Ema;
pub use error::LearningError;
pub use folded_site::Multiplier;
pub use logistic::{FittedHead, LabelledFeatures, LogisticOptions, fit_head};
pub use loss::{argmax, cross_entropy, log_probability, log_softmax, smoothed_target, softmax};
pub use memory::{peak_memory, resident_memory};
pub use network::Network;
pub use norm::SiteNorm;
pub use parameter::{Group, Parameter, Snapshot, Weight};
pub use random::{Purpose, stream};
pub use schedule::LrSchedule;
pub use site::{FrozenSite, NormedSite, Site};
pub use statistics::PooledStatistics;
pub use step::{Checkpointing, Gradients, LossFn, StepOutput};
pub use taught_class::{KnownClasses, MARGIN_FRACTIONS, Simulation, TaughtRow, learn_margins};

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
