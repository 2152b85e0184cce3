//! Storage interface of the store, with one method per primitive operation, so that tests can cut the power at each of
//! them.

use std::{any::Any, io};

/// A tree of files and directories with exactly the guarantees of a POSIX file system.
///
/// Paths are relative to the store's root, with `/` between components; the root itself is `""`. The store's names
/// contain only the characters `a`–`z`, `0`–`9`, `%`, `.`, `_`, `~` and `-`. Written data survive a power cut once the
/// file has been synced. A created, renamed or removed name survives once its directory has been synced. A rename
/// within a directory replaces an existing target atomically: afterwards, even after a power cut, the name refers to
/// either the old or the new file.
pub trait Storage: Send + Sync {
    /// Creates an empty file for writing, or truncates an existing one. Never follows a link.
    ///
    /// # Errors
    /// Returns the error of the operating system. The same applies to the other methods.
    fn create(&self, path: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Opens an existing file for writing and keeps its contents. Never follows a link.
    fn open(&self, path: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Renames a file or directory. A file replaces an existing file at the new path.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &str) -> io::Result<()>;

    /// Syncs many directories: see [`Storage::sync_directory`].
    fn sync_directories(&self, paths: &[String]) -> io::Result<()> {
        paths.iter().try_for_each(|path| self.sync_directory(path))
    }

    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Creates a directory; its parent must exist.
    fn create_directory(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_directory(&self, path: &str) -> io::Result<()>;

    /// Lists a directory, in any order.
    fn list(&self, path: &str) -> io::Result<Vec<Entry>>;

    /// Reads at most `length` bytes of a regular file from `offset`. Returns fewer only at the end of the file.
    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Returns the bytes of a regular file.
    fn length(&self, path: &str) -> io::Result<u64>;

    /// Returns the number of free bytes on the medium; `None` if unknown.
    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// Locks the tree for this process until the returned lock is dropped.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process holds the lock.
    fn lock(&self, path: &str) -> Result<StorageLock, LockError>;
}

/// A file open for writing.
pub trait StorageFile: Send {
    /// Writes all of `bytes` at `offset`.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Truncates the file to `length`.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Makes the contents durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A lock, held until it is dropped.
pub type StorageLock = Box<dyn Any + Send + Sync>;

/// Reason for a failed lock.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds the lock.
    Held {
        /// The process's id, if known.
        pid: Option<u32>,
    },
    /// The lock cannot be created.
    Io(io::Error),
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, with invalid UTF-8 replaced.
    pub name: String,
    /// Kind of the entry.
    pub kind: EntryKind,
    /// Bytes of a file, 0 for everything else.
    pub bytes: u64,
}

/// Kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a device, a socket, or a name that is not UTF-8.
    Other,
}

/// Returns the directory that contains `path`.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Reads a complete file of at most `cap` bytes.
pub(crate) fn read_file(storage: &dyn Storage, path: &str, cap: u64) -> io::Result<Vec<u8>> {
    let length = storage.length(path)?;
    if length > cap {
        let message = format!("{length} bytes, at most {cap} expected");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    storage.read(path, 0, length as usize)
}

/// Bytes of a block. The size of a file on the disk is a multiple of this number.
pub(crate) const BLOCK: u64 = 4 << 10;

/// Returns the bytes of a file on the disk.
pub(crate) fn on_disk(bytes: u64) -> u64 {
    bytes.saturating_add(BLOCK - 1) / BLOCK * BLOCK
}
