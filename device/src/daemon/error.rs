//! What keeps a device from starting or from carrying out a command.

use std::{io, path::PathBuf};

use crate::{EngineError, KeyFileError};

/// An error of the daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The configuration cannot be read or is wrong.
    #[error("configuration '{}': {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The engine does not start, or an adapter does not fit it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A key cannot be read or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] clr_store::StoreError),
    /// Something of the system.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A new adapter does not answer its canaries as it says.
    #[error(
        "canary {canary} of task `{task}`: {reason}\nhint: it was trained for another backbone file or another preprocessing, or is damaged"
    )]
    Canary {
        /// The task.
        task: String,
        /// Which canary, from 0.
        canary: usize,
        /// What it answered.
        reason: String,
    },
}

impl DaemonError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
