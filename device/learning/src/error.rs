//! Errors of a network: mismatches, and operators without a backward pass.

/// Error of building, running or training a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearningError {
    /// Sizes or layouts do not match the network.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// The subject.
        what: String,
        /// The network's value.
        expected: String,
        /// The given value.
        got: String,
    },
    /// A trained site comes before an operator without a backward pass.
    #[error(
        "node `{node}` has no backward pass, and a trained site comes before it\nhint: train the sites after it, or the head alone (recipe linear)"
    )]
    NoBackwardPass {
        /// The node.
        node: String,
    },
    /// The adapter does not fit the backbone.
    #[error(transparent)]
    Adapter(#[from] clr_onnx::AdapterMismatch),
    /// The backbone cannot be lowered for this input size.
    #[error(transparent)]
    Backbone(#[from] clr_onnx::OnnxError),
    /// The runtime cannot execute the backbone.
    #[error(transparent)]
    Runtime(#[from] clr_runtime::RuntimeError),
    /// A site cannot be folded.
    #[error("cannot fold the trained norm: {0}")]
    Fold(#[from] clr_adapters::folding::FoldError),
}

impl LearningError {
    pub(crate) fn mismatch(
        what: impl Into<String>,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::Mismatch {
            what: what.into(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }
}

pub(crate) type Result<T, E = LearningError> = std::result::Result<T, E>;
