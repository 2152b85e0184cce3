//! How an adapter learns: the frozen backbone in candle with CLR sites inserted, and the training loop.
//!
//! [`train`] takes a backbone and a [`Dataset`] to a finished, folded, encoded adapter. [`Network`] is the graph itself.

mod calibrate;
mod check;
#[cfg(any(feature = "cuda", all(test, target_os = "linux")))]
mod cuda;
mod data;
mod error;
mod evaluate;
mod history;
mod memory;
mod network;
mod observer;
pub mod ops;
mod optimise;
mod options;
mod plots;
mod random;
mod train;
mod uncertainty;

#[cfg(test)]
mod tests;

pub use calibrate::{Confidence, log_probability};
pub use check::check_device;
pub use clr_runtime::{Footprint, PrefixActivations};
pub use data::{
    Augmentation, Dataset, Flip, LayoutOptions, Outcome, Pictures, Sample, Scan, ScanLine, ScanReport, Split,
    SplitOptions, Survey, Unreadable, Warning, display_path, inspect,
};
pub use error::TrainError;
pub use evaluate::{ClassScore, Evaluation, argmax, evaluate, evaluate_adapter};
pub use history::Record;
pub use memory::peak_memory;
pub use network::{Group, Learned, Memory, Mode, Network, Objective, Parameter, Snapshot};
pub use observer::{Observer, Phase, Progress};
pub use optimise::{Adam, AdamOptions, AdamState, HeadFit, PerGroup, Rate};
pub use options::{Keep, RecipeChoice, Schedule, Statistics, TrainOptions};
pub use plots::{confusion_matrix_svg, learning_curve_svg};
pub use random::{Purpose, stream};
pub use train::{Candidate, ParitySample, Trained, train};
pub use uncertainty::{as_good, standard_error};

/// Runs `work` with a pool of `threads` threads for everything parallel in it.
pub(crate) fn with_threads<T: Send>(
    threads: usize,
    work: impl FnOnce() -> Result<T, TrainError> + Send,
) -> Result<T, TrainError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("clr-{index}"))
        .build();
    pool.map_err(|error| TrainError::Threads {
        threads,
        reason: error.to_string(),
    })?
    .install(work)
}

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
