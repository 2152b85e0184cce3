//! Second copies of files. A change commits when the file itself is written. Its copy is written afterwards, and is
//! read only if the file is damaged or missing.
//!
//! A power cut between the two writes leaves an older copy next to an intact file; opening the store then rewrites the
//! copy. If a copy cannot be written, it is removed, which is possible even on a full disk. Otherwise an old state
//! could replace a newer one that was damaged later.

use std::io;

use crate::{
    atomic::{self, Failure},
    layout::COPIES,
    problem::{Damage, Problem, ProblemKind, Recovery},
    storage::{Storage, parent, read_file},
};

/// Returns the path of the copy of a task's record.
pub(crate) fn of_record(encoded: &str) -> String {
    format!("{COPIES}/{encoded}")
}

/// Returns the path of the copy of a file in the root.
pub(crate) fn of_root(name: &str) -> String {
    format!("{name}.copy")
}

/// Result of reading a file and its copy.
pub(crate) struct Found<T> {
    /// The contents of the file, or of the copy if the file is unusable.
    pub(crate) value: Option<T>,
    /// Damage of the file and of its copy.
    pub(crate) problems: Vec<Problem>,
    /// Whether file and copy are equal, or both are missing.
    pub(crate) in_line: bool,
}

/// Reads a file; reads its copy if the file is damaged or missing.
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
            // A missing copy is not a problem: stores of older versions have none, and a power cut may precede the
            // first copy.
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

/// Replaces a file, then its copy. Returns the result for the file, and whether no outdated copy remains.
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

/// Rewrites a copy, or removes it if that fails. Returns `false` if an outdated copy may remain.
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
