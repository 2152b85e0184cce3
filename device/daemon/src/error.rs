//! Errors of the daemon.

use std::{io, net::SocketAddr, path::PathBuf};

use clr_adapters::KeyFileError;
use clr_engine::EngineError;

/// An error of the daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The configuration cannot be read, or is invalid.
    #[error("configuration '{}': {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// Error of the engine, including an adapter that does not fit it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The tasks on the command line are not a group.
    #[error(transparent)]
    Group(#[from] clr_transfer::GroupFault),
    /// A key cannot be read or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Error of the store.
    #[error(transparent)]
    Store(#[from] clr_store::StoreError),
    /// Error of the operating system.
    #[error("{what}")]
    Io {
        /// The failed action.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// The device cannot listen on an address.
    #[error("cannot listen {what}: {source}\nhint: {hint}")]
    Listen {
        /// The purpose and address.
        what: String,
        /// The reason.
        source: io::Error,
        /// The remedy.
        hint: String,
    },
    /// The path is too long for a Unix socket.
    #[error(
        "socket '{}': a path of {got} bytes, expected at most {cap}\nhint: name a shorter one with `control.socket`, such as /run/clr/control.sock", path.display()
    )]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Length of the path in bytes.
        got: usize,
        /// Maximum length on this system, in bytes.
        cap: usize,
    },
    /// A new adapter fails a canary.
    #[error(
        "canary {canary} of task `{task}`: {reason}\nhint: it was trained for another backbone file or another preprocessing, or is damaged"
    )]
    Canary {
        /// The task.
        task: String,
        /// Index of the canary.
        canary: usize,
        /// Expected and actual result.
        reason: String,
    },
}

impl DaemonError {
    /// Returns a function that converts an I/O error of listening on an address, and adds a hint.
    pub(crate) fn listen(what: impl Into<String>, address: SocketAddr) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| {
            let hint = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    format!(
                        "another program listens there: end it (`ss -ltnp` names it), or choose another port than {}",
                        address.port()
                    )
                }
                io::ErrorKind::PermissionDenied => "ports below 1024 need root: choose a higher one".to_owned(),
                _ => "`ip address` shows the addresses of this machine".to_owned(),
            };
            Self::Listen { what, source, hint }
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Returns the text of an error with its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
