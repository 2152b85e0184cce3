//! Runs: a method learns a sequence of tasks, and is measured after each.
//!
//! A job is one method with one seed. Its folder has `records.jsonl`, one line per cell of the accuracy matrix, and
//! `timing.json`, or `diverged.json`. While it is not finished, `state.bin` has what the next task needs. All of them are written to a
//! temporary file first, so a job that was stopped anywhere continues from its last complete task, and its records are
//! those of a run without a stop.

mod files;
mod job;
mod plan;
mod tuning;

pub use files::{Cell, Divergence, Timing, read_cells, read_divergence, read_timing};
pub use job::{Event, run_job};
pub use plan::{Job, Plan};
pub use tuning::{TUNING, Trial, Tuning, TuningBasis, validation_accuracy};
