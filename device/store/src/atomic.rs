//! Replacing a file so that it is the old one or the new one at every instant, and never a mixture.

use std::io;

use crate::{
    error::StoreError,
    storage::{Storage, parent},
};

/// The ending of a file that is being written; leftovers of this name are removed when the store is opened.
pub(crate) const UNFINISHED: &str = ".new";

/// What a failed replacement left behind.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The old file; the new one never was in its place.
    Untouched(StoreError),
    /// The old file; the new one was in its place and was taken back, but a power cut may still bring it back.
    TakenBack(StoreError),
    /// The new file, visible but maybe not durable: it could not be taken back either.
    InDoubt(StoreError),
}

impl Failure {
    pub(crate) fn into_error(self) -> StoreError {
        match self {
            Self::Untouched(error) | Self::TakenBack(error) | Self::InDoubt(error) => error,
        }
    }
}

/// Writes a file beside its place, makes it durable, moves it there and makes that durable. `previous` is what to go back to when the last
/// of these steps fails: by then the new file is in place, but a power cut could undo it, and nobody may be told it is there.
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
            tracing::warn!(file, %error, "a change was taken back; a power cut now may bring it back");
        }
        let action = "make durable the place of";
        Err(Failure::TakenBack(StoreError::Io { action, file, source }))
    } else {
        Err(Failure::InDoubt(StoreError::InDoubt { file, source }))
    }
}

/// Temp → write → fsync → rename. A folder that has the place of either file is set aside.
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

/// Gives a folder that has the place of a file another name, out of the way; its contents may be needed and are kept.
pub(crate) fn set_aside(storage: &dyn Storage, path: &str) -> io::Result<()> {
    const MOST: usize = 8;
    let directory = parent(path);
    let taken = storage.list(directory)?;
    let free = (1..=MOST).map(|number| format!("{path}.aside{number}")).find(|name| {
        let name = name.rsplit_once('/').map_or(name.as_str(), |(_, name)| name);
        taken.iter().all(|entry| entry.name != name)
    });
    let free = free.ok_or_else(|| io::Error::other("too many folders were set aside from its place"))?;
    storage.rename(path, &free)?;
    tracing::error!(
        file = path,
        now = free,
        "a folder had the place of a file; it was set aside"
    );
    storage.sync_directory(directory)
}

/// As [`put`], once. On failure the temporary file is removed, if that can be done.
fn try_put(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Result<(), (&'static str, io::Error)> {
    let unfinished = format!("{path}{UNFINISHED}");
    let written = (|| {
        let mut file = storage.create(&unfinished).map_err(|error| ("create", error))?;
        file.write(0, bytes).map_err(|error| ("write", error))?;
        file.sync().map_err(|error| ("make durable", error))?;
        storage.rename(&unfinished, path).map_err(|error| ("replace", error))
    })();
    if written.is_err()
        && let Err(error) = storage.remove(&unfinished)
        && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory)
    {
        tracing::warn!(file = unfinished, %error, "cannot remove what is left of a failed write; it goes when the store is opened");
    }
    written
}

/// Removes a file and makes that durable; `previous` is its contents, to be put back when the latter fails.
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
            tracing::warn!(file, %error, "a removal was taken back; a power cut now may bring it about");
        }
        let action = "make durable the removal of";
        Err(Failure::TakenBack(StoreError::Io { action, file, source }))
    } else {
        Err(Failure::InDoubt(StoreError::InDoubt { file, source }))
    }
}

/// Writes a file that never changes and that nothing refers to yet. `referenced`: something does, and the bytes there are damaged.
pub(crate) fn place(storage: &dyn Storage, path: &str, bytes: &[u8], referenced: bool) -> Result<(), StoreError> {
    put(storage, path, bytes).map_err(|(action, error)| StoreError::io(action, path)(error))?;
    storage.sync_directory(parent(path)).map_err(|error| {
        if !referenced && let Err(error) = storage.remove(path) {
            tracing::warn!(file = path, %error, "cannot remove what is left of a failed write; it goes when the store is opened");
        }
        StoreError::io("make durable the place of", path)(error)
    })
}
