//! The store: one writer at a time; readers never block.

mod change;
mod erase;
mod install;
mod open;
mod read;
mod room;
mod salvage;
mod taught;
mod time;
mod uploads;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use arc_swap::ArcSwap;
use clr_adapters::{Admitted, Digest, Policy, PublicKey, Refusal, SecretKey, Trust, admit};

pub use change::StartOutcome;
pub use install::Installed;
pub(crate) use open::read_record;
pub use read::ServingAdapter;

use crate::{
    active,
    atomic::{self, Failure, is_unfinished},
    copies,
    error::StoreError,
    incoming::Incoming,
    layout::{ACTIVE, ADAPTER_ENDING, ADAPTERS, DIRECTORIES, encoded, record_path},
    names,
    options::StoreOptions,
    problem::Problem,
    record::{self, Record},
    staging::Staging,
    state::{StoredAdapter, StoredTask},
    storage::{EntryKind, Storage, StorageLock, read_file},
    written,
};

/// A device's store of adapters, examples and run states.
///
/// Every method takes `&self`. Writers block each other. [`Store::tasks`], [`Store::task`], [`Store::serving`],
/// [`Store::file`], [`Store::active`] and the readers of examples and run states never block. A change survives a power
/// cut once its method has returned `Ok`. After an `Err`, nothing has changed in memory or on the disk, except for
/// [`StoreError::InDoubt`].
pub struct Store {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: StoreOptions,
    trust: ArcSwap<Trust>,
    /// Signs adapters tuned on the device.
    key: OnceLock<SecretKey>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    writer: Mutex<Writer>,
    /// Bytes written on behalf of peers.
    pub(crate) written: written::Counters,
    opened_with: Vec<Problem>,
    _lock: StorageLock,
}

/// Immutable snapshot for readers, replaced as a unit.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) records: BTreeMap<String, Arc<Record>>,
    /// Tasks whose records cannot be read.
    pub(crate) damaged: BTreeSet<String>,
    /// Tasks that have examples.
    pub(crate) taught: BTreeSet<String>,
    /// The tasks to serve after a restart, or [`AUTO`]; empty: none.
    pub(crate) active: Vec<String>,
    /// Whether the names of the active tasks were lost by damage.
    active_lost: bool,
    /// The highest time that was recorded.
    pub(crate) time: Option<u64>,
    list: Arc<[StoredTask]>,
}

/// State of the writer.
#[derive(Default)]
pub(crate) struct Writer {
    /// Announced uploads, on the disk.
    pub(crate) incoming: Incoming,
    /// Uploads without an announcement, in memory.
    pub(crate) staging: Staging,
    /// Bytes written for announced uploads in the current 24 hours.
    pub(crate) day: written::Day,
    /// Whether the store's directories are known to exist durably.
    prepared: bool,
    /// Usage by examples and run states; `None` until they are counted.
    pub(crate) usage: Option<room::Usage>,
}

impl Snapshot {
    /// Rebuilds the list from the records.
    fn listed(mut self) -> Self {
        let listed = self.records.values().filter(|record| record.is_listed());
        self.list = listed.map(|record| record.state.clone()).collect();
        self
    }

    /// Returns whether a task refers to this adapter.
    pub(crate) fn is_referenced(&self, digest: &Digest) -> bool {
        self.records.values().any(|record| record.state.holds(digest).is_some())
    }

    /// Returns the record of an existing task.
    pub(crate) fn record(&self, task: &str) -> Result<&Arc<Record>, StoreError> {
        if self.damaged.contains(task) {
            return Err(StoreError::DamagedRecord { task: task.to_owned() });
        }
        self.records
            .get(task)
            .filter(|record| record.is_listed())
            .ok_or_else(|| StoreError::NoSuchTask {
                task: task.to_owned(),
                known: self.list.iter().map(|state| state.task.clone()).collect(),
            })
    }
}

impl Store {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        // If a writer panicked, the disk is as after a crash, and the memory is as before the change.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a file against the currently trusted keys.
    pub(crate) fn admit(&self, file: &[u8], now: Option<u64>) -> Result<Admitted, Refusal> {
        self.with_policy(now, |policy| admit(file, policy))
    }

    /// Runs `check` with the policy of the current configuration.
    pub(crate) fn with_policy<T>(&self, now: Option<u64>, check: impl FnOnce(&Policy<'_>) -> T) -> T {
        let trust = self.trust.load();
        check(&Policy {
            trust: &trust,
            backbone: self.options.backbone,
            now,
            limits: self.options.limits,
        })
    }

    /// Changes the trusted keys, names and minimum versions. The change applies from the next file on. If the store has
    /// a device key, `trust.device` is replaced by its public key.
    pub fn set_trust(&self, trust: Trust) {
        let own = self.key.get().map(SecretKey::public);
        self.trust.store(Arc::new(with_own_key(trust, own)));
    }

    /// Sets the device's key, for a store that was opened without one. It can be set only once.
    pub fn set_device_key(&self, key: SecretKey) {
        if self.key.set(key).is_ok() {
            self.set_trust(Trust::clone(&self.trust.load()));
        }
    }

    /// Creates the store's directories, unless this was already done when the store was opened.
    pub(crate) fn prepare(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if !writer.prepared {
            let entries = self.storage.list("").map_err(StoreError::io("list", "."))?;
            for directory in DIRECTORIES {
                let there = entries.iter().find(|entry| entry.name == directory);
                let kind = there.map(|entry| entry.kind);
                if kind == Some(EntryKind::File) {
                    // Something other than a directory has this name.
                    atomic::set_aside(&*self.storage, directory).map_err(StoreError::io("set aside", directory))?;
                }
                if matches!(kind, None | Some(EntryKind::File)) {
                    self.storage
                        .create_directory(directory)
                        .map_err(StoreError::io("create", directory))?;
                }
            }
            self.storage.sync_directory("").map_err(StoreError::io("sync", "."))?;
            writer.prepared = true;
        }
        Ok(())
    }

    /// Refuses names that would be invalid in an adapter.
    pub(crate) fn check_name(&self, task: &str) -> Result<(), StoreError> {
        if task.is_empty() || task.len() > self.options.limits.task_bytes || task.chars().any(char::is_control) {
            return Err(StoreError::Name { task: task.to_owned() });
        }
        encoded(task).map(drop)
    }

    /// Changes a task's record, first on the disk and then in memory. Removes adapters that nothing refers to any more.
    pub(crate) fn put(&self, writer: &mut Writer, record: Record) -> Result<(), Failure> {
        self.prepare(writer).map_err(Failure::Untouched)?;
        let task = record.state.task.clone();
        let path = record_path(&task).map_err(Failure::Untouched)?;
        let snapshot = self.snapshot();
        let before = snapshot.records.get(&task);
        if before.is_some_and(|before| **before == record) {
            return Ok(());
        }
        let sealed = |record: &Record| {
            let damaged = |damage| {
                Failure::Untouched(StoreError::Damaged {
                    file: path.clone(),
                    damage,
                })
            };
            record.to_bytes().map_err(damaged)
        };
        let previous = match before {
            Some(before) => Some(sealed(before)?),
            None => read_file(&*self.storage, &path, record::LARGEST).ok(),
        };
        let bytes = sealed(&record)?;
        let copy = copies::of_record(&encoded(&task).map_err(Failure::Untouched)?);
        let (result, mirrored) = copies::replace(&*self.storage, &path, &copy, &bytes, previous.as_deref());
        let in_force = match &result {
            Ok(()) => true,
            Err(Failure::InDoubt(_)) => {
                read_file(&*self.storage, &path, record::LARGEST).is_ok_and(|found| found == bytes)
            }
            Err(_) => false,
        };
        if in_force {
            let mut after = Snapshot::clone(&snapshot);
            after.damaged.remove(&task);
            after.records.insert(task, Arc::new(record));
            self.snapshot.store(Arc::new(after.listed()));
        }
        // An outdated copy could refer to adapters that the record no longer refers to, so these are kept in that case.
        if result.is_ok() && mirrored {
            let after = self.snapshot();
            let dropped = |held: StoredAdapter| !after.is_referenced(&held.digest);
            if before.is_some_and(|before| before.state.candidates().any(dropped)) {
                self.sweep(&after);
            }
        }
        result
    }

    /// Removes adapters that nothing refers to, unless a record is unreadable and may refer to them. Call it only when
    /// all records are durable. Files that cannot be removed now are removed later.
    pub(crate) fn sweep(&self, snapshot: &Snapshot) {
        let entries = self.storage.list(ADAPTERS).unwrap_or_default();
        for entry in entries.into_iter().filter(|entry| entry.kind == EntryKind::File) {
            let kept = match entry.name.strip_suffix(ADAPTER_ENDING).and_then(names::digest) {
                Some(digest) => !snapshot.damaged.is_empty() || snapshot.is_referenced(&digest),
                None => !is_unfinished(&entry.name),
            };
            if !kept {
                self.remove_leftover(&format!("{ADAPTERS}/{}", entry.name));
            }
        }
    }

    pub(crate) fn remove_leftover(&self, path: &str) {
        match self.storage.remove(path) {
            Ok(()) => tracing::debug!(file = path, "removed a leftover"),
            Err(error) => tracing::warn!(file = path, %error, "cannot remove a leftover"),
        }
    }

    /// Sets the active tasks; without a name, no task is active.
    pub(crate) fn put_active(&self, writer: &mut Writer, tasks: Vec<String>) -> Result<(), StoreError> {
        self.prepare(writer)?;
        let snapshot = self.snapshot();
        if snapshot.active == tasks && !snapshot.active_lost {
            return Ok(());
        }
        let (previous, next) = (active::file(&snapshot.active), active::file(&tasks));
        let copy = copies::of_root(ACTIVE);
        let (result, _) = copies::replace(&*self.storage, ACTIVE, &copy, &next, Some(&previous));
        if matches!(result, Ok(()) | Err(Failure::InDoubt(_))) {
            let mut after = Snapshot::clone(&snapshot);
            after.active = tasks;
            after.active_lost = false;
            self.snapshot.store(Arc::new(after));
        }
        result.map_err(Failure::into_error)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("tasks", &self.snapshot().list)
            .finish_non_exhaustive()
    }
}

/// Returns `trust` with the public key of the device's own key.
pub(crate) fn with_own_key(mut trust: Trust, own: Option<PublicKey>) -> Trust {
    trust.device = own.or(trust.device);
    trust
}
