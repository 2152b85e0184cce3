//! Fine-tuning on the device: new classes from a few labelled images.
//!
//! [`teach`] extends an adapter's head by a prototype of the class, usable at once. [`create_task`] creates a task from labelled images alone.
//! [`tune`] refines sites and class weights in the background, within a memory budget planned in advance, and decides on promotion. Images come
//! from [`Examples`]; the run state is stored in [`Checkpoints`].
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
