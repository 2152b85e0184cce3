//! What keeps a device from starting or from carrying out a command.

use std::{io, net::SocketAddr, path::PathBuf};

use clr_adapters::KeyFileError;
use clr_engine::EngineError;

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
    /// An address that cannot be listened on.
    #[error("cannot listen {what}: {source}\nhint: {hint}")]
    Listen {
        /// For what, and where.
        what: String,
        /// Why.
        source: io::Error,
        /// What to do about it.
        hint: String,
    },
    /// A path that is too long for a Unix socket.
    #[error(
        "socket '{}': a path of {got} bytes, expected at most {cap}\nhint: name a shorter one with `control.socket`, such as /run/clr/control.sock", path.display()
    )]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length.
        got: usize,
        /// The longest that the system takes.
        cap: usize,
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
    /// An address that cannot be listened on, with what helps.
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
                io::ErrorKind::PermissionDenied => "ports below 1024 are for root: choose a higher one".to_owned(),
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
