//! Errors of the benchmark.

use std::path::PathBuf;

use clr_training::TrainError;

/// An error of a continual-learning run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContinualError {
    /// The weights of an operator cannot be trained.
    #[error(
        "node `{node}`: no weight gradient for operator {op}\nhint: linear, bn, clr, clr-full and clr-default run on this backbone: `--methods linear,bn,clr,clr-full,clr-default`"
    )]
    Operator {
        /// Name of the node.
        node: String,
        /// Its ONNX operator.
        op: &'static str,
    },
    /// A size, setting, method name or saved state differs from the expected one.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// The expected size or value.
        expected: String,
        /// The size or value found.
        got: String,
    },
    /// The loss is not a finite number.
    #[error(
        "{method}, task {task}, epoch {epoch}: the loss is not finite\nhint: `--tune` with another output folder compares lower learning rates, for methods that have several"
    )]
    Diverged {
        /// Name of the method.
        method: &'static str,
        /// Number of the task, from 1.
        task: usize,
        /// Number of the epoch, from 1.
        epoch: usize,
    },
    /// The logits of an earlier task changed, although the method guarantees constant logits.
    #[error("task `{task}`: logits changed while `{after}` was learned, expected bit-identical logits")]
    Forgot {
        /// The task whose logits changed.
        task: String,
        /// The task that was learned in between.
        after: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A plot could not be drawn.
    #[error("cannot draw a plot: {0}")]
    Plot(String),
    /// An error of `clr-training`.
    #[error(transparent)]
    Training(Box<TrainError>),
    /// The backbone.
    #[error(transparent)]
    Backbone(#[from] clr_onnx::OnnxError),
    /// Arithmetic of the network.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<TrainError> for ContinualError {
    fn from(error: TrainError) -> Self {
        Self::Training(Box::new(error))
    }
}

/// A result of the benchmark.
pub type Result<T, E = ContinualError> = std::result::Result<T, E>;
