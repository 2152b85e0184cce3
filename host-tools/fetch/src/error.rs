//! Errors of fetching.

use std::{io, path::PathBuf};

/// Error of downloading a package, reading it, or creating a task from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Neither a task nor a backbone.
    #[error(
        "no task or backbone '{name}'\nhint: `clr fetch` lists all{}",
        nearest.as_ref().map(|near| format!("; did you mean '{near}'?")).unwrap_or_default()
    )]
    UnknownItem {
        /// The requested name.
        name: String,
        /// The closest known name.
        nearest: Option<String>,
    },

    /// The program that downloads the package is not installed.
    #[error("'{client}' is not installed, and '{package}' is downloaded with it\nhint: {hint}")]
    ClientMissing {
        /// The program.
        client: &'static str,
        /// The package.
        package: String,
        /// Installation hint.
        hint: &'static str,
    },

    /// The program could not download the package.
    #[error("{client} could not download '{package}': {detail}\nhint: {hint}")]
    ClientFailed {
        /// The program.
        client: &'static str,
        /// The package.
        package: String,
        /// The last lines of its output.
        detail: String,
        /// The remedy.
        hint: &'static str,
    },

    /// The program reported success, but left no file.
    #[error("{client} reported success but left no file for '{package}'")]
    NothingDownloaded {
        /// The program.
        client: &'static str,
        /// The package.
        package: String,
    },

    /// The file is not the pinned one.
    #[error(
        "'{file}' is not the pinned file: expected sha256 {expected}, got {got}\n\
         hint: the file was not kept; run the command again, and if it happens again do not trust the mirror"
    )]
    Checksum {
        /// The file.
        file: String,
        /// The pinned SHA-256.
        expected: String,
        /// SHA-256 of the downloaded file.
        got: String,
    },

    /// No folder for the cache is known.
    #[error("no cache folder: neither --cache, $CLR_CACHE nor a home folder is set\nhint: pass --cache <folder>")]
    NoCache,

    /// An operation of the file system failed.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// The failed operation, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// The archive lacks the expected content.
    #[error("unexpected content in '{archive}': {detail}")]
    Content {
        /// The archive or file.
        archive: String,
        /// Expected and found content.
        detail: String,
    },

    /// An image cannot be read.
    #[error("cannot read image '{entry}': {source}")]
    Image {
        /// The archive's entry.
        entry: String,
        /// The decoder's error.
        source: image::ImageError,
    },

    /// The weights are no backbone.
    #[error(transparent)]
    Import(#[from] clr_onnx::ImportError),

    /// The backbone cannot be written.
    #[error(transparent)]
    Onnx(#[from] clr_onnx::OnnxError),

    /// The backbone's classifier cannot be written as an adapter.
    #[error(transparent)]
    Encode(#[from] clr_adapters::EncodeError),
}

impl FetchError {
    /// Returns whether the download itself failed. Such errors have a separate exit code.
    pub fn is_download(&self) -> bool {
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
