//! Errors of the engine.

use clr_onnx::{AdapterMismatch, OnnxError};

/// An error of the engine or the task set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The backbone file cannot be read or used.
    #[error(transparent)]
    Backbone(#[from] OnnxError),
    /// The adapter does not fit the backbone: another digest, or other sites, channels or features.
    #[error(transparent)]
    Adapter(#[from] AdapterMismatch),
    /// The adapter was prepared by another engine.
    #[error(
        "adapter `{task}` was prepared for another engine\nhint: call `prepare` on the engine that is to run the adapter"
    )]
    OtherEngine {
        /// The adapter's task.
        task: String,
    },
    /// The backbone cannot run at the adapter's input size.
    #[error(
        "adapter `{task}`: the backbone cannot run at {height}x{width} pixels: {reason}\nhint: train the adapter at a size that the backbone supports"
    )]
    Size {
        /// The adapter's task.
        task: String,
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// The fault.
        reason: String,
    },
    /// A preprocessed input has the wrong number of values.
    #[error(
        "input: expected {expected} values (3 x {height} x {width}), got {got}\nhint: preprocess the image with the adapter's own preprocessing"
    )]
    Input {
        /// Values of the adapter's input.
        expected: usize,
        /// Rows of the adapter's input.
        height: u32,
        /// Columns of the adapter's input.
        width: u32,
        /// Number of values passed by the caller.
        got: usize,
    },
    /// A logit of the network is NaN or infinite.
    #[error(
        "adapter `{task}`: class {class} has the logit {value}\nhint: the input holds values that are not finite, or the adapter is damaged"
    )]
    NotFinite {
        /// The adapter's task.
        task: String,
        /// Index of the first class with such a logit.
        class: usize,
        /// Value of the logit.
        value: f32,
    },
    /// A feature of the backbone is NaN or infinite.
    #[error("backbone: feature {feature} is {value}\nhint: the image or the backbone file is damaged")]
    Feature {
        /// Index of the first such feature.
        feature: usize,
        /// Value of the feature.
        value: f32,
    },
    /// No adapter of this name is resident.
    #[error("no task `{name}` is resident\nhint: resident tasks: {}", list(resident))]
    UnknownTask {
        /// The requested name.
        name: String,
        /// Names of the resident tasks, sorted.
        resident: Vec<String>,
    },
    /// The runtime does not support an operator of the backbone.
    #[error(transparent)]
    Runtime(#[from] clr_runtime::RuntimeError),
    /// tract refused to build or run the plan.
    #[cfg(feature = "tract")]
    #[error("inference engine: {reason}")]
    Plan {
        /// The error of tract.
        reason: String,
    },
    /// The threads of the pool could not be started.
    #[error("cannot start {threads} inference threads: {reason}\nhint: ask for fewer threads")]
    Threads {
        /// The requested number of threads.
        threads: usize,
        /// The system's error.
        reason: String,
    },
}

impl EngineError {
    /// Converts an error of tract, with its chain of causes.
    #[cfg(feature = "tract")]
    pub(crate) fn plan(error: impl std::fmt::Display) -> Self {
        Self::Plan {
            reason: format!("{error:#}"),
        }
    }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    match names {
        [] => "none".to_owned(),
        names if names.len() <= SHOWN => names.join(", "),
        names => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
    }
}
