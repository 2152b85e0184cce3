//! Traversal of a folder in a fixed order, following links.

use std::{
    fs,
    io::{Error, ErrorKind},
    path::{Path, PathBuf},
};

use super::{Outcome, Verdict, leftovers, report::PERMISSION_DENIED};
use crate::error::{Result, TrainError};

/// Maximum depth of folders.
const DEPTH: usize = 64;

/// Files and folders by their path from the root.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// `None` for a regular file that has not been examined yet.
    pub(super) files: Vec<(PathBuf, Option<Verdict>)>,
    pub(super) folders: Vec<PathBuf>,
}

pub(super) fn walk(root: &Path) -> Result<Walk> {
    let read = |source| TrainError::Read {
        path: root.to_owned(),
        source,
    };
    let metadata = fs::metadata(root).map_err(read)?;
    let mut walk = Walk::default();
    if metadata.is_dir() {
        let entries = fs::read_dir(root).map_err(read)?;
        let mut way = vec![fs::canonicalize(root).map_err(read)?];
        walk.folder(root, Path::new(""), entries, &mut way, None);
    } else if metadata.is_file() {
        walk.files.push((PathBuf::new(), None));
    } else {
        return Err(read(Error::other("neither a file nor a folder")));
    }
    Ok(walk)
}

impl Walk {
    /// Adds the contents of `folder`. `way` is the chain of real folders that lead to it. `reason` is set if everything
    /// in it is ignored.
    fn folder(
        &mut self,
        root: &Path,
        folder: &Path,
        entries: fs::ReadDir,
        way: &mut Vec<PathBuf>,
        reason: Option<&str>,
    ) {
        let mut names = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => names.push(entry.file_name()),
                Err(error) => return self.files.push((folder.to_owned(), Some(unreadable(&error)))),
            }
        }
        names.sort_unstable();
        for name in names {
            let path = folder.join(&name);
            let full = root.join(&path);
            let text = name.to_string_lossy();
            let metadata = match fs::metadata(&full) {
                Ok(metadata) => metadata,
                Err(error) => {
                    let passed = reason.map(str::to_owned).or_else(|| leftovers::file(&text));
                    let verdict = passed.map_or_else(|| missing(&full, &error), passed_over);
                    self.files.push((path, Some(verdict)));
                    continue;
                }
            };
            if metadata.is_dir() {
                let passed = reason.map(str::to_owned).or_else(|| leftovers::folder(&text));
                self.enter(root, path, way, passed.as_deref());
            } else if let Some(passed) = reason.map(str::to_owned).or_else(|| leftovers::file(&text)) {
                self.files.push((path, Some(passed_over(passed))));
            } else if metadata.is_file() {
                self.files.push((path, None));
            } else {
                self.files.push((path, Some(special(&metadata))));
            }
        }
    }

    fn enter(&mut self, root: &Path, path: PathBuf, way: &mut Vec<PathBuf>, reason: Option<&str>) {
        let full = root.join(&path);
        let opened = fs::canonicalize(&full).and_then(|real| Ok((real, fs::read_dir(&full)?)));
        match opened {
            Ok((real, _)) if way.contains(&real) => {
                let verdict = Verdict::new(Outcome::LeftOut, "link", "it leads in a circle");
                self.files.push((path, Some(verdict)));
            }
            Ok(_) if way.len() > DEPTH => {
                let reason = format!("folders within folders, more than {DEPTH}");
                let verdict = Verdict::new(Outcome::LeftOut, "folder", reason);
                self.files.push((path, Some(verdict)));
            }
            Ok((real, entries)) => {
                if reason.is_none() {
                    self.folders.push(path.clone());
                }
                way.push(real);
                self.folder(root, &path, entries, way, reason);
                way.pop();
            }
            Err(error) => {
                let verdict = Verdict {
                    kind: "folder".into(),
                    ..unreadable(&error)
                };
                self.files.push((path, Some(verdict)));
            }
        }
    }
}

/// Returns the verdict for a file that cannot be opened.
pub(super) fn unreadable(error: &Error) -> Verdict {
    let reason = match error.kind() {
        ErrorKind::PermissionDenied => PERMISSION_DENIED,
        ErrorKind::NotFound => "it was removed during the scan",
        _ => "it cannot be read",
    };
    Verdict::new(Outcome::LeftOut, "unreadable", reason).with_detail(error.to_string())
}

/// Returns the verdict for a name without a file, such as a broken link.
fn missing(full: &Path, error: &Error) -> Verdict {
    let link = fs::symlink_metadata(full).is_ok_and(|metadata| metadata.is_symlink());
    match error.kind() {
        ErrorKind::NotFound if link => Verdict::new(Outcome::LeftOut, "link", "its target does not exist"),
        // A link to itself.
        _ if link && error.kind() != ErrorKind::PermissionDenied => {
            Verdict::new(Outcome::LeftOut, "link", "it leads in a circle")
        }
        _ => unreadable(error),
    }
}

fn passed_over(reason: String) -> Verdict {
    Verdict::new(Outcome::PassedOver, "leftover", reason)
}

#[cfg(unix)]
fn special(metadata: &fs::Metadata) -> Verdict {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    let kind = if kind.is_fifo() {
        "pipe (FIFO)"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    };
    Verdict::new(Outcome::LeftOut, kind, "no regular file")
}

#[cfg(not(unix))]
fn special(_: &fs::Metadata) -> Verdict {
    Verdict::new(Outcome::LeftOut, "special file", "no regular file")
}
