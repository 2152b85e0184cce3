//! Problems with files of a store.

use std::{fmt, io};

use clr_adapters::{Digest, Refusal};

/// A problem with a file of the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The file, relative to the store.
    pub file: String,
    /// The kind of problem.
    pub kind: ProblemKind,
}

/// Kind of a problem with a file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A record refers to the file, but it is missing.
    Missing,
    /// The file cannot be read, for the system's reason.
    Unreadable(String),
    /// The file's contents are damaged.
    Damaged(Damage),
    /// The length of an adapter differs from its record.
    Length {
        /// Bytes in the record.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// An adapter's bytes do not match its name.
    Digest {
        /// The digest of the bytes found.
        got: Digest,
    },
    /// The file contains an adapter that would be refused now, for example because its key is no longer trusted.
    Refused(Box<Refusal>),
    /// The file contains an adapter of another task than its record.
    OtherTask {
        /// The adapter's task.
        got: String,
    },
    /// The record differs from the state in memory, because another program changed it.
    Changed,
    /// The file is damaged or missing, and was recovered.
    Recovered {
        /// The problem.
        fault: Box<ProblemKind>,
        /// The recovery.
        recovery: Recovery,
    },
    /// The file does not belong to a store.
    Unknown,
    /// Nothing refers to the file. It is removed when the store is opened and all records can be read.
    Leftover,
}

/// Recovery of a damaged or missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// The file was restored from its copy.
    Copy,
    /// The record was salvaged from the task's adapters, of which the newest intact one serves.
    Adapters {
        /// The version that serves.
        version: u64,
        /// The highest version found. The highest admitted version may have been higher before.
        highest_admitted: u64,
    },
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("its copy is used"),
            Self::Adapters {
                version,
                highest_admitted,
            } => write!(
                f,
                "salvaged from the task's adapters: version {version} serves, versions above {highest_admitted} are accepted"
            ),
        }
    }
}

impl ProblemKind {
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.file, self.kind)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
            Self::Damaged(damage) => write!(f, "is damaged: {damage}"),
            Self::Length { expected, got } => write!(f, "has {got} bytes, expected {expected}"),
            Self::Digest { got } => write!(f, "has the digest {got}, not the one in its name"),
            Self::Refused(refusal) => {
                // The hint is for the sender of a file.
                let text = refusal.to_string();
                write!(f, "is refused: {}", text.lines().next().unwrap_or_default())
            }
            Self::OtherTask { got } => write!(f, "is of task `{got}`"),
            Self::Changed => f.write_str("was changed by another program"),
            Self::Recovered { fault, recovery } => write!(f, "{fault}; {recovery}"),
            Self::Unknown => f.write_str("is not a file of this store"),
            Self::Leftover => f.write_str("is left over"),
        }
    }
}

/// Damage of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The magic number is wrong.
    Magic,
    /// The file ends early.
    Short,
    /// The checksum is wrong.
    Checksum,
    /// The contents are not in the canonical form that this version writes.
    Form,
    /// The contents do not match the file's name.
    Name,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "its magic number is wrong",
            Self::Short => "it ends early",
            Self::Checksum => "its checksum is wrong",
            Self::Form => "its contents do not have the expected form",
            Self::Name => "its contents do not match its name",
        })
    }
}
