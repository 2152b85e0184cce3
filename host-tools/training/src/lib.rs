//! Training of adapters from data sets: schedules, recipes, evaluation, reports.
//!
//! [`train`] turns a backbone and a [`Dataset`] into a finished, folded and encoded adapter. A [`Network`] is the state
//! of a task. An [`Executor`] runs it on the CPU through `clr-learning`, or in candle ([`CandleBackbone`]) on a GPU.

mod background;
mod batches;
mod calibrate;
mod check;
mod compact_options;
#[cfg(any(feature = "cuda", all(test, target_os = "linux")))]
mod cuda;
mod data;
mod error;
mod evaluate;
mod executor;
mod history;
mod network;
mod observer;
pub mod ops;
mod options;
mod plots;
mod sizes;
mod train;
mod uncertainty;

#[cfg(test)]
mod tests;

pub use background::{BackgroundOptions, fit_background};
pub use batches::SplitImages;
pub use calibrate::Confidence;
pub use check::check_device;
pub use clr_learning::{
    Adam, AdamOptions, AdamState, Augmentation, Flip, Group, LearningError, LogisticOptions, LrSchedule, Network,
    Parameter, PerGroup, Purpose, Snapshot, StepOutput, argmax, cross_entropy, log_probability, peak_memory,
    resident_memory, stream,
};
pub use compact_options::CompactOptions;
pub use data::{
    Dataset, LayoutOptions, Outcome, Sample, Scan, ScanLine, ScanReport, Split, SplitOptions, Survey, Unreadable,
    Warning, display_path, evenly_spaced, inspect,
};
pub use error::TrainError;
pub use evaluate::{ClassScore, Evaluation, evaluate, evaluate_adapter};
pub use executor::{Executor, Images};
pub use history::Record;
pub use network::{CandleBackbone, Mode};
pub use observer::{Observer, Phase, Progress};
pub use options::{EpochSelection, NormStatistics, RecipeChoice, Schedule, TrainOptions};
pub use plots::{confusion_matrix_svg, learning_curve_svg};
pub use train::{ConversionLoss, Converted, ParitySample, RecipeResult, Trained, conversion_loss, convert, train};
pub use uncertainty::{as_good, standard_error};

/// Runs `work` with a thread pool of `threads` threads for all parallel computation in it.
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
