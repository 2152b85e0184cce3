//! What can go wrong while fetching.

use std::{io, path::PathBuf};

/// A package could not be had, read or turned into a task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FetchError {
    #[error(
        "nothing called '{name}' can be fetched\nhint: `clr fetch` lists what there is{}",
        nearest.as_ref().map(|near| format!("; did you mean '{near}'?")).unwrap_or_default()
    )]
    UnknownItem { name: String, nearest: Option<String> },

    #[error("'{client}' is not on this machine, and '{package}' comes through it\nhint: {hint}")]
    ClientMissing {
        client: &'static str,
        package: String,
        hint: &'static str,
    },

    #[error("{client} could not download '{package}': {detail}\nhint: {hint}")]
    ClientFailed {
        client: &'static str,
        package: String,
        detail: String,
        hint: &'static str,
    },

    #[error("{client} reported success but left no file for '{package}'")]
    NothingDownloaded { client: &'static str, package: String },

    #[error(
        "'{file}' is not the pinned file: expected sha256 {expected}, got {got}\n\
         hint: the file was not kept; run the command again, and if it happens again do not trust the mirror"
    )]
    Checksum {
        file: String,
        expected: String,
        got: String,
    },

    #[error("no cache folder: neither --cache, $CLR_CACHE nor a home folder is set\nhint: pass --cache <folder>")]
    NoCache,

    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    #[error("'{archive}' does not hold what was expected: {detail}")]
    Content { archive: String, detail: String },

    #[error("cannot read picture '{entry}': {source}")]
    Picture { entry: String, source: image::ImageError },
}

impl FetchError {
    /// Whether the cause is the download itself, which has its own exit code.
    pub(crate) fn is_download(&self) -> bool {
        matches!(
            self,
            Self::ClientMissing { .. }
                | Self::ClientFailed { .. }
                | Self::NothingDownloaded { .. }
                | Self::Checksum { .. }
        )
    }

    pub(crate) fn content(archive: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Content {
            archive: archive.into(),
            detail: detail.into(),
        }
    }
}
