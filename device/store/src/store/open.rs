//! Opening a store: what is there is read, what was left unfinished goes. Nothing needs to be written for the store to serve.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;

use super::{
    ACTIVE, ADAPTER_ENDING, ADAPTERS, LOCK, Snapshot, Store, TASKS, Writer, adapter_path, is_unfinished, with_own_key,
};
use crate::{
    checkpoints,
    directory::Directory,
    error::{Damage, StoreError},
    examples,
    incoming::{self, Incoming},
    names,
    options::StoreOptions,
    record::{self, Record},
    sealed,
    storage::{Entry, EntryKind, LockError, Storage, read_whole},
    verify::{Problem, ProblemKind},
    written,
};

/// The directories of a store.
pub(crate) const DIRECTORIES: [&str; 5] = [
    TASKS,
    ADAPTERS,
    incoming::DIRECTORY,
    examples::DIRECTORY,
    checkpoints::DIRECTORY,
];

impl Store {
    /// Opens the store in a directory, which is created if need be.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_directory(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let directory = Directory::open(path).map_err(StoreError::io("open", &name))?;
        Self::open(Arc::new(directory), options)
    }

    /// Opens a store. It finds what the last operation left, whole, or what was there before it, and removes leftovers. A disk that can
    /// only be read is no error, nor is a damaged file: see [`Store::problems`].
    ///
    /// # Errors
    /// [`StoreError::Locked`]; [`StoreError::Io`] if the disk cannot be read at all.
    pub fn open(storage: Arc<dyn Storage>, options: StoreOptions) -> Result<Self, StoreError> {
        let lock = storage.lock(LOCK).map_err(|error| match error {
            LockError::Held { pid } => StoreError::Locked { pid },
            LockError::Io(error) => StoreError::io("lock", LOCK)(error),
        })?;
        let mut problems = Vec::new();
        let snapshot = read_snapshot(&*storage, &options, &mut problems)?.listed();
        let mut store = Self {
            storage,
            trust: ArcSwap::from_pointee(with_own_key(options.trust.clone(), &options)),
            options,
            snapshot: ArcSwap::from_pointee(snapshot),
            writer: Mutex::new(Writer::default()),
            written: written::Counters::default(),
            opened_with: Vec::new(),
            _lock: lock,
        };
        store.clean(&mut problems);
        store.check_adapters(&mut problems);
        for problem in &problems {
            tracing::error!(%problem, "found when the store was opened");
        }
        store.opened_with = problems;
        Ok(store)
    }

    /// Removes what unfinished operations left, and finishes removals.
    fn clean(&self, problems: &mut Vec<Problem>) {
        let snapshot = self.snapshot();
        let mut writer = self.writer();
        // A program that was killed may have left names that are seen, but not durable. Nothing is removed on their word before they are.
        let sync = |directory: &str| {
            self.storage
                .sync_directory(directory)
                .map_err(StoreError::io("make durable", directory))
        };
        let durable = self
            .prepare(&mut writer)
            .and_then(|()| DIRECTORIES.into_iter().try_for_each(sync));
        if let Err(error) = &durable {
            tracing::warn!(%error, "leftovers stay, as the disk cannot be written");
        }
        let durable = durable.is_ok();
        if durable {
            for directory in [TASKS, checkpoints::DIRECTORY, ""] {
                for entry in self.storage.list(directory).unwrap_or_default() {
                    if entry.kind == EntryKind::File && is_unfinished(&entry.name) {
                        self.remove_leftover(&join(directory, &entry.name));
                    }
                }
            }
            self.sweep(&snapshot);
            self.clean_examples(&mut writer);
            for (task, record) in &snapshot.records {
                let done = match record {
                    record if record.erasing => self.finish_erasing(&mut writer, task),
                    record if record.is_empty() => self.forget(task),
                    _ => Ok(()),
                };
                if let Err(error) = done {
                    tracing::warn!(task, %error, "cannot finish the removal of a task; it stays removed");
                }
            }
        }
        self.adopt_uploads(&mut writer.incoming, durable, problems);
    }

    fn adopt_uploads(&self, incoming: &mut Incoming, durable: bool, problems: &mut Vec<Problem>) {
        let snapshot = self.snapshot();
        for entry in self.storage.list(incoming::DIRECTORY).unwrap_or_default() {
            let path = join(incoming::DIRECTORY, &entry.name);
            let digest = entry.name.strip_suffix(incoming::ENDING).and_then(names::digest);
            let Some(digest) = digest.filter(|_| entry.kind == EntryKind::File) else {
                problems.push(Problem {
                    file: path,
                    kind: ProblemKind::Unknown,
                });
                continue;
            };
            let installed = snapshot.is_referenced(&digest);
            let adopted = if installed {
                Ok(())
            } else {
                incoming.adopt(&*self.storage, digest, |announced| {
                    self.check_announced(announced, None)
                })
            };
            match adopted {
                Ok(()) if !installed => {}
                // Its head never became durable: it holds nothing. Or it was installed, or its publisher is no longer trusted.
                Ok(()) | Err(StoreError::Damaged { .. } | StoreError::Refused(_)) => {
                    if durable {
                        self.remove_leftover(&path);
                    }
                }
                Err(error) => problems.push(Problem {
                    file: path,
                    kind: ProblemKind::Unreadable(error.to_string()),
                }),
            }
        }
    }

    /// Compares the adapters that are there with those that are referred to, by name and length.
    fn check_adapters(&self, problems: &mut Vec<Problem>) {
        let Ok(entries) = self.storage.list(ADAPTERS) else {
            return;
        };
        for record in self.snapshot().records.values() {
            for held in record.state.candidates() {
                let file = adapter_path(&held.digest);
                let name = format!("{}{ADAPTER_ENDING}", held.digest);
                let kind = match entries.iter().find(|entry| entry.name == name) {
                    Some(entry) if entry.kind == EntryKind::File && entry.bytes == held.bytes => continue,
                    Some(entry) => ProblemKind::Length {
                        expected: held.bytes,
                        got: entry.bytes,
                    },
                    None => ProblemKind::Missing,
                };
                problems.push(Problem { file, kind });
            }
        }
        for entry in entries {
            let known = entry
                .name
                .strip_suffix(ADAPTER_ENDING)
                .and_then(names::digest)
                .is_some();
            if entry.kind != EntryKind::File || !known && !is_unfinished(&entry.name) {
                problems.push(Problem {
                    file: join(ADAPTERS, &entry.name),
                    kind: ProblemKind::Unknown,
                });
            }
        }
    }
}

pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// The entries of a directory that may be missing on a disk that can only be read.
fn entries(storage: &dyn Storage, directory: &str) -> Result<Vec<Entry>, StoreError> {
    match storage.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(StoreError::io("list", directory)),
    }
}

fn read_snapshot(
    storage: &dyn Storage,
    options: &StoreOptions,
    problems: &mut Vec<Problem>,
) -> Result<Snapshot, StoreError> {
    let mut snapshot = Snapshot::default();
    let mut damaged = BTreeSet::new();
    for Entry { name, kind, .. } in entries(storage, TASKS)? {
        let file = join(TASKS, &name);
        if kind == EntryKind::File && is_unfinished(&name) {
            continue;
        }
        let Some(task) = names::decode(&name).filter(|_| kind == EntryKind::File) else {
            problems.push(Problem {
                file,
                kind: ProblemKind::Unknown,
            });
            continue;
        };
        match read_record(storage, &file, &task) {
            Ok(record) => drop(snapshot.records.insert(task, Arc::new(record))),
            Err(kind) => {
                problems.push(Problem { file, kind });
                damaged.insert(task);
            }
        }
    }
    snapshot.damaged = damaged;
    let cap = (options.limits.task_bytes + sealed::OVERHEAD) as u64;
    match sealed::read(storage, ACTIVE, sealed::ACTIVE, cap) {
        Ok(task) => snapshot.active = String::from_utf8(task).ok().filter(|task| !task.is_empty()),
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(StoreError::Io { file, source, .. }) => {
            problems.push(Problem {
                file,
                kind: ProblemKind::of(&source),
            });
        }
        Err(StoreError::Damaged { file, damage }) => {
            problems.push(Problem {
                file,
                kind: ProblemKind::Damaged(damage),
            });
        }
        Err(error) => return Err(error),
    }
    Ok(snapshot)
}

pub(crate) fn read_record(storage: &dyn Storage, file: &str, task: &str) -> Result<Record, ProblemKind> {
    let bytes = read_whole(storage, file, record::LARGEST).map_err(|error| ProblemKind::of(&error))?;
    let record = Record::from_bytes(&bytes).map_err(ProblemKind::Damaged)?;
    if record.state.task == task {
        Ok(record)
    } else {
        Err(ProblemKind::Damaged(Damage::Name))
    }
}
