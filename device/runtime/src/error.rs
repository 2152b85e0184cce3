//! Errors of compilation.

/// Error for a program, or for parameters of a site, that cannot be executed.
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
    /// Results of a convolution of bytes could leave the range of f32.
    #[error(
        "site `{site}`: the results of channel {channel} can exceed the range of f32: scales of the quantised backbone, or \
         weights or bias of the adapter are too large"
    )]
    Range {
        /// The convolution's name.
        site: String,
        /// The channel.
        channel: usize,
    },
}

impl RuntimeError {
    pub(crate) fn unsupported(node: &str, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            node: node.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn range(site: &str, channel: usize) -> Self {
        Self::Range {
            site: site.to_owned(),
            channel,
        }
    }
}
