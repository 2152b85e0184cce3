//! Errors of the benchmark.

use std::path::PathBuf;

use clr_training::TrainError;

/// An error of a continual-learning run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContinualError {
    /// The weights of an operator cannot be trained.
    #[error(
        "node `{node}`: all weights of a network with {op} cannot be trained here\nhint: methods that freeze the backbone (linear, bn, clr, clr-full) run on it; the others need a backbone of convolutions, batch norms, activations, pools, sums and dense layers"
    )]
    Operator {
        /// Name of the node.
        node: String,
        /// Its ONNX operator.
        op: &'static str,
    },
    /// A batch or stream has other sizes than the network.
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
    #[error("{method}, task {task}, epoch {epoch}: the loss is not finite\nhint: try a lower rate")]
    Diverged {
        /// Name of the method.
        method: &'static str,
        /// Number of the task, from 1.
        task: usize,
        /// Number of the epoch, from 1.
        epoch: usize,
    },
    /// A method that keeps its answers gave another one.
    #[error("task `{task}`: its answers changed when `{after}` was learned, but this method must keep them")]
    Forgot {
        /// The task whose answers changed.
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
    #[error("a plot: {0}")]
    Plot(String),
    /// Data sets, heads or adapters.
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
