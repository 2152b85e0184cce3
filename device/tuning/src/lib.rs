//! Fine-tuning on the device: new classes from a few labelled images.
//!
//! [`teach`] extends an adapter's head by a prototype of the class, which is usable immediately. [`create_task`]
//! creates a task from labelled images alone. [`tune`] refines sites and class weights in the background. It plans its
//! memory in advance within a budget, and decides whether to promote the result. Images are read from [`Examples`], and
//! the run state is stored in [`Checkpoints`].
#![forbid(unsafe_code)]

mod budget;
mod checkpoint;
mod class_bias;
mod comparison;
mod create_task;
mod error;
mod examples;
mod features;
mod fitted_class;
mod forecast;
mod images;
mod options;
mod parent;
mod priority;
mod profile;
mod promote;
mod prototype;
mod remove_class;
mod separation;
mod tune;
mod verdict_words;

pub use budget::{MARGIN, MemoryPlan, TrainableScope, resident};
pub use checkpoint::Checkpoints;
pub use comparison::Comparison;
pub use create_task::create_task;
pub use error::TuneError;
pub use examples::{Example, ExampleSplit, Examples, InMemory, split_examples};
pub use forecast::{ClassForecast, Forecast, forecast};
pub use options::TuneOptions;
pub use parent::{AdapterRevision, Parent};
pub use priority::lower_priority;
pub use promote::{PredictedLoss, PromotionVerdict};
pub use prototype::{Taught, TaughtClass, teach};
pub use remove_class::remove_class;
pub use tune::{Observer, Progress, Tuned, plan_memory, tune};
