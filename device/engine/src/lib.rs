//! Inference engine: one frozen backbone in memory, with any number of kilobyte-sized tasks.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use clr_engine::{Engine, TaskSet};
//!
//! let engine = Engine::load("backbone.onnx")?;
//! let tasks = TaskSet::new();
//! for file in ["birds.clr", "flowers.clr"] {
//!     let adapter = clr_adapters::decode(&std::fs::read(file)?)?.adapter;
//!     tasks.insert(engine.prepare(&adapter)?);
//! }
//! let birds = tasks.switch("birds")?;
//! let answer = engine.classify(&birds, &clr_onnx::decode_image("photo.jpg".as_ref())?)?;
//! for ranked in answer.top(5) {
//!     println!("{} {:.1} %", ranked.label, 100.0 * ranked.probability);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A switch selects another [`ResidentAdapter`]. Nothing is reloaded, and a frame in progress finishes with the adapter
//! that it started with.

mod auto;
mod classification;
mod engine;
mod error;
mod memory;
mod pass;
mod plan;
#[cfg(feature = "tract")]
mod reference;
mod resident;
mod scorer;
mod several;
mod tasks;

pub use auto::{Choice, ChoiceStatus, ChooserOptions, RunnerUp, ScoreOptions, TaskChooser, score_tasks};
pub use classification::{Classification, Ranked};
pub use clr_switching::{Selected, Selection};
pub use engine::{Engine, EngineMemory, EngineOptions, Kernels};
pub use error::EngineError;
pub use memory::{resident_memory, trim_heap};
pub use pass::ImagePass;
pub use resident::ResidentAdapter;
pub use scorer::TaskScore;
pub use tasks::TaskSet;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
