//! Automatic choice of the task. Every resident task scores the frame, and the chosen task stays until another one
//! leads clearly.
//!
//! ```no_run
//! use clr_engine::{ChooserOptions, Engine, EngineError, TaskChooser, TaskSet};
//! use clr_onnx::RgbImage;
//!
//! fn follow(engine: &Engine, tasks: &TaskSet, frames: &[RgbImage]) -> Result<(), EngineError> {
//!     let mut chooser = TaskChooser::new(ChooserOptions::default());
//!     for frame in frames {
//!         let mut pass = engine.pass(frame);
//!         let choice = chooser.observe(&mut pass, tasks)?;
//!         match &choice.task {
//!             Some(task) => println!("{}: {:?}", task.task(), pass.classify(task)?.best()),
//!             None => println!("unknown: {:?}", choice.status),
//!         }
//!     }
//!     Ok(())
//! }
//! ```

mod chooser;
mod hysteresis;
mod score;

pub use chooser::{Choice, ChoiceStatus, RunnerUp, TaskChooser};
pub use hysteresis::ChooserOptions;
pub use score::{ScoreOptions, score_tasks};
