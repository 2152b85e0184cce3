//! Fault injection: a layer over any storage, which counts modifying operations and stops at one of them or makes it
//! fail.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use crate::storage::{Entry, LockError, Storage, StorageFile, StorageLock};

/// A modifying operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the methods of `Storage` and `StorageFile`")]
pub enum Operation {
    Create,
    Open,
    Write,
    Truncate,
    Sync,
    Rename,
    SyncDirectory,
    Remove,
    CreateDirectory,
    RemoveDirectory,
}

/// Position of a stop within an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The operation does nothing.
    Before,
    /// A write writes only its first half; any other operation does nothing.
    Half,
}

/// An injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Simulates the end of the program at operation `at` (from 0): this operation and all later ones fail, reads
    /// included.
    Stop {
        /// The number of the operation.
        at: usize,
        /// The moment within the operation.
        moment: Moment,
    },
    /// Operation `at` fails; with `forever`, all later operations fail too. A failing write has written its first half.
    Fail {
        /// The number of the operation.
        at: usize,
        /// The system's error number, for instance 28 for a full disk.
        errno: i32,
        /// Whether all later operations fail too.
        forever: bool,
    },
}

#[derive(Debug, Default)]
struct FaultPlan {
    fault: Option<Fault>,
    done: Vec<(Operation, String)>,
    stopped: bool,
}

/// [`Storage`] with faults.
pub struct Faults {
    inner: Arc<dyn Storage>,
    plan: Arc<Mutex<FaultPlan>>,
}

/// Treatment of an operation.
enum Injection {
    Go,
    Half(io::Error),
    No(io::Error),
}

fn stopped() -> io::Error {
    io::Error::other("the power is off")
}

impl FaultPlan {
    fn next(&mut self, operation: Operation, path: &str) -> Injection {
        if self.stopped {
            return Injection::No(stopped());
        }
        let number = self.done.len();
        self.done.push((operation, path.to_owned()));
        match self.fault {
            Some(Fault::Stop { at, moment }) if at == number => {
                self.stopped = true;
                if moment == Moment::Half {
                    Injection::Half(stopped())
                } else {
                    Injection::No(stopped())
                }
            }
            Some(Fault::Fail { at, errno, forever }) if at == number || forever && at < number => {
                Injection::Half(io::Error::from_raw_os_error(errno))
            }
            _ => Injection::Go,
        }
    }
}

impl Faults {
    /// Wraps a storage. There are no faults until [`Faults::set`].
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            plan: Arc::default(),
        }
    }

    /// Sets the fault, or removes it, and restarts the count at 0.
    pub fn set(&self, fault: Option<Fault>) {
        *self.plan() = FaultPlan {
            fault,
            ..FaultPlan::default()
        };
    }

    /// Returns the operations since [`Faults::set`], with their paths. Failed operations are included.
    #[must_use]
    pub fn operations(&self) -> Vec<(Operation, String)> {
        self.plan().done.clone()
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, FaultPlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, operation: Operation, path: &str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let injection = self.plan().next(operation, path);
        match injection {
            Injection::Go => act(),
            Injection::Half(error) | Injection::No(error) => Err(error),
        }
    }

    fn look<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.plan().stopped { Err(stopped()) } else { act() }
    }

    fn file(&self, path: &str, inner: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        Box::new(FaultyFile {
            inner,
            path: path.to_owned(),
            plan: Arc::clone(&self.plan),
        })
    }
}

struct FaultyFile {
    inner: Box<dyn StorageFile>,
    path: String,
    plan: Arc<Mutex<FaultPlan>>,
}

impl FaultyFile {
    fn next(&self, operation: Operation) -> Injection {
        self.plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(operation, &self.path)
    }
}

impl StorageFile for FaultyFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.next(Operation::Write) {
            Injection::Go => self.inner.write(offset, bytes),
            Injection::Half(error) => {
                self.inner.write(offset, &bytes[..bytes.len() / 2])?;
                Err(error)
            }
            Injection::No(error) => Err(error),
        }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        match self.next(Operation::Truncate) {
            Injection::Go => self.inner.truncate(length),
            Injection::Half(error) | Injection::No(error) => Err(error),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.next(Operation::Sync) {
            Injection::Go => self.inner.sync(),
            Injection::Half(error) | Injection::No(error) => Err(error),
        }
    }
}

impl Storage for Faults {
    fn create(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        let file = self.change(Operation::Create, path, || self.inner.create(path))?;
        Ok(self.file(path, file))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        let file = self.change(Operation::Open, path, || self.inner.open(path))?;
        Ok(self.file(path, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Operation::Rename, to, || self.inner.rename(from, to))
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.change(Operation::SyncDirectory, path, || self.inner.sync_directory(path))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(Operation::Remove, path, || self.inner.remove(path))
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.change(Operation::CreateDirectory, path, || self.inner.create_directory(path))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.change(Operation::RemoveDirectory, path, || self.inner.remove_directory(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        self.look(|| self.inner.list(path))
    }

    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.look(|| self.inner.read(path, offset, length))
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        self.look(|| self.inner.length(path))
    }

    fn free(&self) -> io::Result<u64> {
        self.look(|| self.inner.free())
    }

    fn lock(&self, path: &str) -> Result<StorageLock, LockError> {
        self.inner.lock(path)
    }
}
