//! Storage for a device that cannot open its state folder: it is empty, and every change fails with the reason.

use std::io;

use crate::storage::{Entry, LockError, Storage, StorageFile, StorageLock};

/// Empty, read-only [`Storage`], so that a device without its state folder still runs and reports the reason.
#[derive(Debug)]
pub struct Unavailable {
    kind: io::ErrorKind,
    reason: String,
}

impl Unavailable {
    /// Creates the storage with the error that prevented opening the real one.
    #[must_use]
    pub fn new(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            reason: format!("{error}; the device runs without its state until it is started again"),
        }
    }

    fn refuse<T>(&self) -> io::Result<T> {
        Err(io::Error::new(self.kind, self.reason.clone()))
    }
}

impl Storage for Unavailable {
    fn create(&self, _: &str) -> io::Result<Box<dyn StorageFile>> {
        self.refuse()
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn StorageFile>> {
        self.refuse()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        self.refuse()
    }

    fn sync_directory(&self, _: &str) -> io::Result<()> {
        self.refuse()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        self.refuse()
    }

    fn create_directory(&self, _: &str) -> io::Result<()> {
        self.refuse()
    }

    fn remove_directory(&self, _: &str) -> io::Result<()> {
        self.refuse()
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        // The root is listed before the first change.
        if path.is_empty() { self.refuse() } else { Ok(Vec::new()) }
    }

    fn read(&self, _: &str, _: u64, _: usize) -> io::Result<Vec<u8>> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    fn length(&self, _: &str) -> io::Result<u64> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    fn lock(&self, _: &str) -> Result<StorageLock, LockError> {
        Ok(Box::new(()))
    }
}
