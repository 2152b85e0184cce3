//! Second copies of files. The file itself is the commit point of a change. Its copy is written afterwards, and read
//! only where the file is damaged or missing.
//!
//! A power cut between the two leaves an older copy next to an intact file, and opening the store rewrites it. A copy
//! that cannot be written is removed, which is possible on a full disk: an older state must not replace a newer one
//! that is damaged.

use std::io;

use crate::{
    atomic::{self, Failure},
    error::Damage,
    storage::{Storage, parent, read_file},
    verify::{Problem, ProblemKind, Recovery},
};

/// The directory of the records' copies.
pub(crate) const DIRECTORY: &str = "copies";

/// Returns the path of the copy of a task's record.
pub(crate) fn of_record(encoded: &str) -> String {
    format!("{DIRECTORY}/{encoded}")
}

/// Returns the path of the copy of a file in the root.
pub(crate) fn of_root(name: &str) -> String {
    format!("{name}.copy")
}

/// A file and its copy, as read.
pub(crate) struct Found<T> {
    /// The contents, of the file or else of the copy.
    pub(crate) value: Option<T>,
    /// Damage of either.
    pub(crate) problems: Vec<Problem>,
    /// Whether the two are equal or both missing.
    pub(crate) in_line: bool,
}

/// Reads a file, or its copy where the file is damaged.
pub(crate) fn read<T>(
    storage: &dyn Storage,
    path: &str,
    copy: &str,
    cap: u64,
    parse: impl Fn(&[u8]) -> Result<T, Damage>,
) -> Found<T> {
    let read = |path: &str| {
        let bytes = read_file(storage, path, cap).map_err(|error| ProblemKind::of(&error))?;
        let value = parse(&bytes).map_err(ProblemKind::Damaged)?;
        Ok((value, bytes))
    };
    let mut problems = Vec::new();
    let mut problem = |file: &str, kind| {
        let file = file.to_owned();
        problems.push(Problem { file, kind });
    };
    let (value, in_line) = match (read(path), read(copy)) {
        (Ok((value, bytes)), Ok((_, copied))) => (Some(value), bytes == copied),
        (Ok((value, _)), Err(kind)) => {
            // Stores of older versions have no copies, and a power cut may precede the first copy.
            if kind != ProblemKind::Missing {
                problem(copy, kind);
            }
            (Some(value), false)
        }
        (Err(kind), Ok((value, _))) => {
            let (fault, recovery) = (Box::new(kind), Recovery::Copy);
            problem(path, ProblemKind::Recovered { fault, recovery });
            (Some(value), false)
        }
        (Err(ProblemKind::Missing), Err(ProblemKind::Missing)) => (None, true),
        (Err(kind), Err(of_copy)) => {
            problem(path, kind);
            if of_copy != ProblemKind::Missing {
                problem(copy, of_copy);
            }
            (None, false)
        }
    };
    Found {
        value,
        problems,
        in_line,
    }
}

/// Replaces a file, then its copy. Returns the result for the file, and whether no older copy is left.
pub(crate) fn replace(
    storage: &dyn Storage,
    path: &str,
    copy: &str,
    bytes: &[u8],
    previous: Option<&[u8]>,
) -> (Result<(), Failure>, bool) {
    let result = atomic::replace(storage, path, bytes, previous);
    let mirrored = result.is_ok() && mirror(storage, copy, bytes);
    (result, mirrored)
}

/// Rewrites a copy, or removes it. Returns `false` if an older one may be left.
pub(crate) fn mirror(storage: &dyn Storage, copy: &str, bytes: &[u8]) -> bool {
    let Err(failure) = atomic::replace(storage, copy, bytes, None) else {
        return true;
    };
    let error = failure.into_error();
    let removed = remove(storage, copy);
    tracing::warn!(file = copy, %error, older_copy_left = removed.is_err(), "cannot write the second copy of a file");
    removed.is_ok()
}

/// Removes a copy durably, if there is one.
pub(crate) fn remove(storage: &dyn Storage, copy: &str) -> io::Result<()> {
    match storage.remove(copy) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| storage.sync_directory(parent(copy))),
    }
}
