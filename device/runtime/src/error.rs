//! Errors of compilation.

/// Error for a program that cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The runtime does not know an operation.
    #[error("node `{node}`: {reason}")]
    Unsupported {
        /// The node.
        node: String,
        /// The operation and its difficulty.
        reason: String,
    },
}

impl RuntimeError {
    pub(crate) fn unsupported(node: &str, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            node: node.to_owned(),
            reason: reason.into(),
        }
    }
}
