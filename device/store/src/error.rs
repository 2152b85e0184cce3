//! Errors of the store. After any of them, the state in memory equals the state on the disk, and the serving adapter
//! does not change.

use std::io;

use clr_adapters::{Digest, Refusal};

use crate::problem::{Damage, Problem, ProblemKind};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An operation on the disk failed. Nothing has changed.
    #[error("cannot {action} `{file}`: {source}{}", hint(source))]
    Io {
        /// The operation.
        action: &'static str,
        /// The file, relative to the store.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// The change was made, but could be neither synced nor undone. It is in effect.
    #[error(
        "`{file}` was replaced, but cannot be made safe from a power cut: {source}\nhint: the change is in force; a power cut may restore the state before it"
    )]
    InDoubt {
        /// The file, relative to the store.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// Another process holds the store.
    #[error("the store is in use by {}\nhint: stop that process first", process(*pid))]
    Locked {
        /// The process's id, if known.
        pid: Option<u32>,
    },
    /// The adapter is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The name is not valid for a task.
    #[error("`{task}` cannot be the name of a task\nhint: names have 1 to 128 bytes and no control characters")]
    Name {
        /// The name.
        task: String,
    },
    /// The label of an example is not a valid label of an adapter.
    #[error(
        "`{label}` cannot be a label\nhint: labels have 1 to 256 bytes, no control characters, and are not a single space"
    )]
    Label {
        /// The label.
        label: String,
    },
    /// The store has no such task.
    #[error("no task `{task}` in the store\nhint: tasks in the store: {}", list(known))]
    NoSuchTask {
        /// The requested task.
        task: String,
        /// The existing tasks.
        known: Vec<String>,
    },
    /// The task's record and its copy are damaged, and no adapter of the task is intact. The versions that the device
    /// may accept are therefore unknown.
    #[error(
        "task `{task}`: its record is damaged, and there is no intact adapter to salvage it from\nhint: remove the task, then push its adapter again"
    )]
    DamagedRecord {
        /// The task.
        task: String,
    },
    /// None of the task's adapters can be served.
    #[error(
        "task `{task}`: no adapter can be served: {}\nhint: push the adapter again",
        problems(tried)
    )]
    NothingServes {
        /// The task.
        task: String,
        /// The problem of each adapter.
        tried: Vec<Problem>,
    },
    /// No adapter of the task is on trial.
    #[error("task `{task}`: no adapter is on trial")]
    NoTrial {
        /// The task.
        task: String,
    },
    /// No earlier adapter exists.
    #[error("task `{task}`: there is no earlier adapter to go back to\nhint: push a better one, or remove the task")]
    NothingToRollBack {
        /// The task.
        task: String,
    },
    /// No restore point exists.
    #[error("task `{task}`: the serving adapter is the publisher's original, there is nothing to restore")]
    NothingToRestore {
        /// The task.
        task: String,
    },
    /// The parent of a tuned adapter is not the confirmed adapter.
    #[error(
        "task `{task}`: tuned from version {got}, but version {expected} is confirmed\nhint: tune again, from the serving adapter"
    )]
    Stale {
        /// The task.
        task: String,
        /// The confirmed version.
        expected: u64,
        /// The tuned file's version.
        got: u64,
    },
    /// Another adapter is on trial.
    #[error(
        "task `{task}`: another adapter, of version {version}, is on trial\nhint: wait until it is confirmed or reverted"
    )]
    TrialUnderWay {
        /// The task.
        task: String,
        /// The version on trial.
        version: u64,
    },
    /// A tuned adapter has the wrong provenance, or is signed by another key than the device's.
    #[error(
        "task `{task}`: not an adapter that this device tuned: {reason}\nhint: install adapters that were made elsewhere"
    )]
    NotTunedHere {
        /// The task.
        task: String,
        /// The reason.
        reason: &'static str,
    },
    /// The store holds no adapter of this digest.
    #[error("no adapter {digest} in the store")]
    NoSuchAdapter {
        /// The requested digest.
        digest: Digest,
    },
    /// No upload of this digest is in progress.
    #[error("no upload of {digest} is in progress\nhint: begin it again")]
    NoSuchUpload {
        /// The requested digest of the upload.
        digest: Digest,
    },
    /// A piece of an upload leaves a gap.
    #[error("upload {digest}: a piece for offset {got}, but only {held} bytes are held\nhint: continue at {held}")]
    Offset {
        /// The upload.
        digest: Digest,
        /// Bytes held durably.
        held: u64,
        /// The piece's offset.
        got: u64,
    },
    /// An upload is longer or shorter than announced.
    #[error("upload {digest}: {got} bytes, {expected} announced")]
    UploadLength {
        /// The upload.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
        /// Number of bytes held, or that would be held with the piece.
        got: u64,
    },
    /// Other uploads use all the memory for unannounced uploads.
    #[error(
        "{uploads} uploads without an announcement are in progress\nhint: try again in some seconds; a file signed by `clr sign` is announced"
    )]
    Busy {
        /// The number of these uploads.
        uploads: usize,
    },
    /// A cap of [`crate::Caps`] is reached.
    #[error("{what}: {got}, at most {cap} allowed\nhint: {hint}")]
    Full {
        /// The capped quantity.
        what: &'static str,
        /// The cap.
        cap: u64,
        /// The value that the addition would give.
        got: u64,
        /// Advice.
        hint: &'static str,
    },
    /// No example with this digest exists.
    #[error("task `{task}`: no example {id}")]
    NoSuchExample {
        /// The task.
        task: String,
        /// SHA-256 of the image.
        id: Digest,
    },
    /// A file is damaged.
    #[error("`{file}` is damaged: {damage}")]
    Damaged {
        /// The file, relative to the store.
        file: String,
        /// The kind of damage.
        damage: Damage,
    },
}

impl StoreError {
    /// Adds the attempted action and the file to a disk error.
    pub(crate) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { action, file, source }
    }

    /// Returns the error of a file that cannot be used.
    pub(crate) fn of_problem(problem: Problem) -> Self {
        let Problem { file, kind } = problem;
        match kind {
            ProblemKind::Missing => Self::io("read", &file)(io::Error::from(io::ErrorKind::NotFound)),
            ProblemKind::Unreadable(reason) => Self::io("read", &file)(io::Error::other(reason)),
            ProblemKind::Length { .. } => Self::Damaged {
                file,
                damage: Damage::Short,
            },
            _ => Self::Damaged {
                file,
                damage: Damage::Name,
            },
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhint: nothing has changed; free some space, for instance by removing examples or tasks"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "\nhint: nothing has changed; the file system is read-only, maybe after an error of the disk (see the system's log)"
        }
        io::ErrorKind::PermissionDenied => "\nhint: nothing has changed; the store belongs to another user",
        _ => "",
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    match names {
        [] => "none".to_owned(),
        names if names.len() <= SHOWN => names.join(", "),
        names => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
    }
}

fn problems(tried: &[Problem]) -> String {
    let tried: Vec<_> = tried.iter().map(ToString::to_string).collect();
    if tried.is_empty() {
        "there is none".to_owned()
    } else {
        tried.join("; ")
    }
}
