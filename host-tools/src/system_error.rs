//! Hints for errors of the operating system.

use std::{
    env,
    io::{Error, ErrorKind},
    path::Path,
};

/// Returns a hint for an error of the operating system. `place` is the file or folder, if known.
pub(crate) fn hint(error: &Error, place: Option<&Path>) -> Option<String> {
    Some(match error.kind() {
        ErrorKind::NotFound => {
            let folder = env::current_dir().ok()?;
            format!(
                "check the path with `ls`; a relative path starts in '{}'",
                folder.display()
            )
        }
        ErrorKind::PermissionDenied => {
            let place = place.map_or_else(|| "it".to_owned(), |place| format!("'{}'", place.display()));
            format!("let this user read or write {place} (`chmod`, `chown`), or give another path")
        }
        ErrorKind::IsADirectory => "give a file, not a folder".to_owned(),
        ErrorKind::NotADirectory => "give a path whose parent is a folder".to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "make room (`df -h` shows where), or give a path on another disk".to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => "give a path on a disk that can be written".to_owned(),
        _ => return None,
    })
}
