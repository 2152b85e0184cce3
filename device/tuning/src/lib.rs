//! Fine-tuning on the device: new classes from a few labelled images.
//!
//! [`teach`] extends an adapter's head by a prototype that answers at once; [`create_task`] makes a task of nothing but images; [`tune`] refines
//! sites and head in the background, within a memory budget that it plans beforehand, and says whether the result deserves to be
//! promoted. Images come through [`Examples`], the state of a run goes through [`Checkpoints`].
#![forbid(unsafe_code)]

mod create_task;
mod budget;
mod checkpoint;
mod class_bias;
mod error;
mod examples;
mod features;
mod forecast;
mod options;
mod parent;
mod images;
mod priority;
mod profile;
mod promote;
mod prototype;
mod separation;
mod tune;

pub use create_task::create_task;
pub use budget::{TrainableScope, MARGIN, MemoryPlan, resident};
pub use checkpoint::Checkpoints;
pub use error::TuneError;
pub use examples::{Example, Examples, InMemory, ExampleSplit, split_examples};
pub use forecast::{ClassForecast, Forecast, forecast};
pub use options::TuneOptions;
pub use parent::{Parent, AdapterRevision};
pub use priority::lower_priority;
pub use promote::{Comparison, PromotionVerdict};
pub use prototype::{Taught, TaughtClass, teach};
pub use tune::{Progress, Tuned, Observer, plan_memory, tune};
