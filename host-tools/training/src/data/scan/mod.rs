//! Scan of a folder: the kind of every file according to its content, and why a file is not used.
//!
//! Training, evaluation, classification, teaching and the check of data all use this scan. Links are followed, except
//! that a link to one of its parent folders is only listed.

mod leftovers;
mod report;
mod walk;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use clr_onnx::{FILE_HEAD, FileKind};
use rayon::prelude::*;

pub use report::{Outcome, ScanLine, ScanReport, display_path};

use super::Unreadable;
use crate::error::{Result, TrainError};

/// Result for one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// The kind, such as `PNG` or `HEIC`.
    pub(crate) kind: Cow<'static, str>,
    /// The reason why the file is not used; empty for a used image.
    pub(crate) reason: Cow<'static, str>,
    /// A detail that only concerns this file.
    pub(crate) detail: Option<String>,
}

impl Verdict {
    fn new(outcome: Outcome, kind: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            outcome,
            kind: Cow::Borrowed(kind),
            reason: reason.into(),
            detail: None,
        }
    }

    fn with_detail(mut self, detail: String) -> Self {
        self.detail = Some(detail);
        self
    }
}

/// Scan of a folder and all files below it, or of a single file.
#[derive(Clone, Debug)]
pub struct Scan {
    root: PathBuf,
    /// Verdicts by path relative to the root.
    files: BTreeMap<PathBuf, Verdict>,
    /// Every folder that is not ignored, relative to the root.
    folders: Vec<PathBuf>,
}

impl Scan {
    /// Scans the folder `root`, or the file `root`.
    ///
    /// # Errors
    /// [`TrainError::Read`] if `root` cannot be read.
    pub fn of(root: &Path) -> Result<Self> {
        let walk::Walk { files, folders } = walk::walk(root)?;
        let files = files
            .into_par_iter()
            .map(|(path, verdict)| {
                let verdict = verdict.unwrap_or_else(|| look(&full(root, &path)));
                (path, verdict)
            })
            .collect();
        Ok(Self {
            root: root.to_owned(),
            files,
            folders,
        })
    }

    /// Returns the folder, or the file.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the paths of the used images, sorted. The paths include the root.
    pub fn images(&self) -> Vec<PathBuf> {
        let images = self
            .files
            .iter()
            .filter(|(_, verdict)| verdict.outcome == Outcome::Image);
        images.map(|(path, _)| full(&self.root, path)).collect()
    }

    /// Returns the report. `unreadable` are files that failed to decode later; they are listed as left out.
    pub fn report<'a>(&self, unreadable: impl IntoIterator<Item = &'a Unreadable>) -> ScanReport {
        let mut files = self.files.clone();
        for file in unreadable {
            // Commands with several folders list files including the root.
            let path = file.path.strip_prefix(&self.root).unwrap_or(&file.path);
            let Some(verdict) = files.get_mut(path) else { continue };
            verdict.outcome = Outcome::LeftOut;
            verdict.reason = Cow::Borrowed(file.kind);
            verdict.detail = Some(file.reason.clone());
        }
        ScanReport::new(&files)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&PathBuf, &Verdict)> {
        self.files.iter()
    }

    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the error for a class folder without images. It states what the folder contains, and why those files are
    /// not used.
    pub(crate) fn empty_class(&self, class: String, folder: &Path) -> TrainError {
        let files = self
            .files
            .iter()
            .filter(|(path, verdict)| path.starts_with(folder) && verdict.outcome == Outcome::LeftOut);
        let files = files.map(|(path, verdict)| (path.clone(), verdict.clone())).collect();
        let report = ScanReport::new(&files);
        let reasons: Vec<String> = report.lines.iter().map(|line| line.text(1)).collect();
        TrainError::EmptyClass {
            class,
            path: full(&self.root, folder),
            unreadable: files.len(),
            reasons: if reasons.is_empty() {
                String::new()
            } else {
                format!(": {}", reasons.join("; "))
            },
        }
    }

    /// Marks an image as ignored.
    pub(crate) fn pass_over(&mut self, path: &Path, reason: &'static str) {
        if let Some(verdict) = self.files.get_mut(path) {
            verdict.outcome = Outcome::PassedOver;
            verdict.reason = Cow::Borrowed(reason);
        }
    }

    /// Marks an image as left out.
    pub(crate) fn leave_out(&mut self, path: &Path, reason: impl Into<Cow<'static, str>>) {
        if let Some(verdict) = self.files.get_mut(path)
            && verdict.outcome == Outcome::Image
        {
            verdict.outcome = Outcome::LeftOut;
            verdict.reason = reason.into();
        }
    }
}

/// Returns the full path of the file at `path` below `root`. For an empty path it returns `root`, because joining would
/// add a slash.
fn full(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        root.to_owned()
    } else {
        root.join(path)
    }
}

/// Determines the kind of a regular file from its first bytes.
fn look(path: &Path) -> Verdict {
    let mut start = Vec::with_capacity(FILE_HEAD);
    let read = File::open(path).and_then(|file| file.take(FILE_HEAD as u64).read_to_end(&mut start));
    if let Err(error) = read {
        return walk::unreadable(&error);
    }
    match FileKind::of(path, &start) {
        FileKind::Image(format) => Verdict::new(Outcome::Image, format, ""),
        FileKind::Unread { name, advice } => Verdict::new(Outcome::LeftOut, name, advice),
        FileKind::Annotation(kind) => {
            Verdict::new(Outcome::PassedOver, kind, "annotations or notes, which are not read")
        }
        FileKind::Empty => Verdict::new(Outcome::LeftOut, "empty file", "it has no bytes"),
        _ => {
            let extension = path
                .extension()
                .map(|end| format!(".{}", end.to_string_lossy().to_lowercase()));
            let kind = extension.unwrap_or_else(|| "no extension".to_owned());
            Verdict {
                kind: Cow::Owned(kind),
                ..Verdict::new(Outcome::PassedOver, "", "no image by name or content")
            }
        }
    }
}
