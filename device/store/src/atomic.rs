//! Atomic replacement and removal of files. A change is durable when its function returns.

use std::io;

use crate::{
    error::StoreError,
    storage::{Storage, parent},
};

/// Suffix of temporary files. Opening the store removes leftovers with this suffix.
pub(crate) const UNFINISHED: &str = ".new";

/// The state after a failed replacement.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The old file was never replaced.
    Untouched(StoreError),
    /// The replacement was undone, but a power cut may restore it.
    Undone(StoreError),
    /// The new file is visible, but it may not be durable and could not be removed again.
    InDoubt(StoreError),
}

impl Failure {
    pub(crate) fn into_error(self) -> StoreError {
        match self {
            Self::Untouched(error) | Self::Undone(error) | Self::InDoubt(error) => error,
        }
    }
}

/// Replaces a file atomically: temporary file, fsync, rename, fsync of the folder. If the last step fails, the new file
/// is in place but not durable. In that case it is replaced by `previous`, or removed if there was no previous file.
/// The caller therefore never reports a change that a power cut could undo.
pub(crate) fn replace(storage: &dyn Storage, path: &str, bytes: &[u8], previous: Option<&[u8]>) -> Result<(), Failure> {
    put(storage, path, bytes).map_err(|(action, error)| Failure::Untouched(StoreError::io(action, path)(error)))?;
    let Err(source) = storage.sync_directory(parent(path)) else {
        return Ok(());
    };
    let undone = match previous {
        Some(previous) => put(storage, path, previous).is_ok(),
        None => storage.remove(path).is_ok(),
    };
    let file = path.to_owned();
    if undone {
        if let Err(error) = storage.sync_directory(parent(path)) {
            tracing::warn!(file, %error, "change undone, but its directory could not be synced: a power cut may restore it");
        }
        let action = "sync the folder of";
        Err(Failure::Undone(StoreError::Io { action, file, source }))
    } else {
        Err(Failure::InDoubt(StoreError::InDoubt { file, source }))
    }
}

/// Writes a temporary file, syncs it and renames it. If a folder exists at either path, it is set aside.
fn put(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Result<(), (&'static str, io::Error)> {
    let done = try_put(storage, path, bytes);
    match &done {
        Err((_, error)) if error.kind() == io::ErrorKind::IsADirectory => {
            let unfinished = format!("{path}{UNFINISHED}");
            let in_the_way = [path, &unfinished].into_iter().find(|path| storage.list(path).is_ok());
            match in_the_way.map(|path| set_aside(storage, path)) {
                Some(Ok(())) => try_put(storage, path, bytes),
                _ => done,
            }
        }
        _ => done,
    }
}

/// Renames a folder that exists at the path of a file, and keeps its contents.
pub(crate) fn set_aside(storage: &dyn Storage, path: &str) -> io::Result<()> {
    const MOST: usize = 8;
    let directory = parent(path);
    let taken = storage.list(directory)?;
    let free = (1..=MOST).map(|number| format!("{path}.aside{number}")).find(|name| {
        let name = name.rsplit_once('/').map_or(name.as_str(), |(_, name)| name);
        taken.iter().all(|entry| entry.name != name)
    });
    let free = free.ok_or_else(|| io::Error::other("too many folders were set aside from its path"))?;
    storage.rename(path, &free)?;
    tracing::error!(file = path, now = free, "a folder at the path of a file was set aside");
    storage.sync_directory(directory)
}

/// Does the same as [`put`] without a second attempt. On failure, removes the temporary file if possible.
fn try_put(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Result<(), (&'static str, io::Error)> {
    let unfinished = format!("{path}{UNFINISHED}");
    let written = (|| {
        let mut file = storage.create(&unfinished).map_err(|error| ("create", error))?;
        file.write(0, bytes).map_err(|error| ("write", error))?;
        file.sync().map_err(|error| ("sync", error))?;
        storage.rename(&unfinished, path).map_err(|error| ("replace", error))
    })();
    if written.is_err()
        && let Err(error) = storage.remove(&unfinished)
        && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory)
    {
        tracing::warn!(file = unfinished, %error, "cannot remove the temporary file of a failed write; it is removed when the store is opened");
    }
    written
}

/// Removes a file durably. If the sync fails, restores the file with its contents, `previous`.
pub(crate) fn delete(storage: &dyn Storage, path: &str, previous: &[u8]) -> Result<(), Failure> {
    let removed = match storage.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => set_aside(storage, path),
        removed => removed,
    };
    removed.map_err(|error| Failure::Untouched(StoreError::io("remove", path)(error)))?;
    let Err(source) = storage.sync_directory(parent(path)) else {
        return Ok(());
    };
    let file = path.to_owned();
    if put(storage, path, previous).is_ok() {
        if let Err(error) = storage.sync_directory(parent(path)) {
            tracing::warn!(file, %error, "removal undone, but its directory could not be synced: a power cut may still remove it");
        }
        let action = "sync the removal of";
        Err(Failure::Undone(StoreError::Io { action, file, source }))
    } else {
        Err(Failure::InDoubt(StoreError::InDoubt { file, source }))
    }
}

/// Writes an immutable file that nothing refers to yet. With `referenced`, a record already refers to the file and its
/// bytes on the disk are damaged.
pub(crate) fn place(storage: &dyn Storage, path: &str, bytes: &[u8], referenced: bool) -> Result<(), StoreError> {
    put(storage, path, bytes).map_err(|(action, error)| StoreError::io(action, path)(error))?;
    storage.sync_directory(parent(path)).map_err(|error| {
        if !referenced && let Err(error) = storage.remove(path) {
            tracing::warn!(file = path, %error, "cannot remove the temporary file of a failed write; it is removed when the store is opened");
        }
        StoreError::io("sync the folder of", path)(error)
    })
}

/// Returns whether a name is that of a temporary file.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.ends_with(UNFINISHED)
}
