//! Opening of a store: reading, recovery and removal of leftovers. A store on a read-only disk can still serve.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};

use arc_swap::ArcSwap;

use super::{Snapshot, Store, Writer, time};
use crate::{
    active,
    atomic::{self, is_unfinished},
    copies,
    directory::Directory,
    error::StoreError,
    incoming::{self, Incoming},
    layout::{
        ACTIVE, ADAPTER_ENDING, ADAPTERS, CHECKPOINTS, COPIES, DIRECTORIES, EXAMPLES, INCOMING, LOCK, TASKS, TIME,
        adapter_path, encoded, join,
    },
    names,
    options::StoreOptions,
    problem::{Damage, Problem, ProblemKind},
    record::{self, Record},
    sealed,
    storage::{Entry, EntryKind, LockError, Storage, read_file},
    written,
};

impl Store {
    /// Opens the store in a directory. Creates the directory if it does not exist.
    ///
    /// # Errors
    /// [`StoreError`] in the same cases as [`Store::open`], and if the directory cannot be opened.
    pub fn open_directory(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let directory = Directory::open(path).map_err(StoreError::io("open", &name))?;
        Self::open(Arc::new(directory), options)
    }

    /// Opens a store and removes leftovers. The state is the one before or after the last operation, never in between.
    /// An unreadable or read-only disk and damaged files are not errors: see [`Store::problems`].
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has locked the store; [`StoreError::Io`] if locking fails.
    pub fn open(storage: Arc<dyn Storage>, mut options: StoreOptions) -> Result<Self, StoreError> {
        let lock = storage.lock(LOCK).map_err(|error| match error {
            LockError::Held { pid } => StoreError::Locked { pid },
            LockError::Io(error) => StoreError::io("lock", LOCK)(error),
        })?;
        let mut problems = Vec::new();
        let (snapshot, stale) = read_snapshot(&*storage, &mut problems);
        let key = options.device_key.take();
        let mut store = Self {
            storage,
            trust: ArcSwap::from_pointee(options.trust.clone()),
            key: OnceLock::new(),
            options,
            snapshot: ArcSwap::from_pointee(snapshot.listed()),
            writer: Mutex::new(Writer::default()),
            written: written::Counters::default(),
            opened_with: Vec::new(),
            _lock: lock,
        };
        if let Some(key) = key {
            store.set_device_key(key);
        }
        store.recover(&stale, &mut problems);
        store.check_adapters(&mut problems);
        for problem in &problems {
            tracing::error!(%problem, "found when the store was opened");
        }
        store.opened_with = problems;
        Ok(store)
    }

    /// Rewrites copies, salvages lost records, removes leftovers of unfinished operations, and completes interrupted
    /// removals of tasks.
    fn recover(&self, stale: &Stale, problems: &mut Vec<Problem>) {
        let mut writer = self.writer();
        // A killed program may have left names that are visible but not durable. They must become durable before other
        // files are removed because of them.
        let sync = |directory: &str| {
            self.storage
                .sync_directory(directory)
                .map_err(StoreError::io("sync", directory))
        };
        let durable = self
            .prepare(&mut writer)
            .and_then(|()| DIRECTORIES.into_iter().try_for_each(sync));
        if let Err(error) = &durable {
            tracing::warn!(%error, "cannot write to the disk, leftovers stay");
        }
        let durable = durable.is_ok();
        if durable {
            for directory in [TASKS, COPIES, CHECKPOINTS, ""] {
                for entry in self.storage.list(directory).unwrap_or_default() {
                    if entry.kind == EntryKind::File && is_unfinished(&entry.name) {
                        self.remove_leftover(&join(directory, &entry.name));
                    }
                }
            }
        }
        let in_line = !durable || self.bring_in_line(stale);
        self.salvage_records(durable, problems);
        let snapshot = self.snapshot();
        if durable {
            if in_line {
                self.sweep(&snapshot);
            }
            self.clean_examples(&mut writer);
            for (task, record) in &snapshot.records {
                let done = match record {
                    record if record.erasing => self.finish_erasing(&mut writer, task),
                    record if record.is_empty() => self.forget(task),
                    _ => Ok(()),
                };
                if let Err(error) = done {
                    tracing::warn!(task, %error, "cannot finish the removal of a task");
                }
            }
        }
        self.adopt_uploads(&mut writer.incoming, durable, problems);
    }

    /// Rewrites files and copies that differ from the state in memory. Returns `false` if an outdated copy of a record
    /// may remain.
    fn bring_in_line(&self, stale: &Stale) -> bool {
        let snapshot = self.snapshot();
        let mut in_line = true;
        for task in &stale.records {
            let (Some(record), Ok(name)) = (snapshot.records.get(task), encoded(task)) else {
                continue;
            };
            let Ok(bytes) = record.to_bytes() else { continue };
            let path = join(TASKS, &name);
            // The state was read from the copy, or the file has an older format.
            let differs = read_file(&*self.storage, &path, record::LARGEST).ok().as_ref() != Some(&bytes);
            if differs && let Err(failure) = atomic::replace(&*self.storage, &path, &bytes, None) {
                tracing::warn!(task, error = %failure.into_error(), "cannot rewrite a record");
                in_line = false;
            } else {
                in_line &= copies::mirror(&*self.storage, &copies::of_record(&name), &bytes);
            }
        }
        let time = snapshot.time.unwrap_or_default().to_le_bytes();
        for (is_stale, name, file) in [
            (stale.active, ACTIVE, active::file(&snapshot.active)),
            (stale.time, TIME, sealed::seal(sealed::TIME, &time)),
        ] {
            if is_stale {
                let copy = copies::of_root(name);
                if let (Err(failure), _) = copies::replace(&*self.storage, name, &copy, &file, Some(&file)) {
                    tracing::warn!(file = name, error = %failure.into_error(), "cannot rewrite a file and its copy");
                }
            }
        }
        in_line
    }

    fn adopt_uploads(&self, incoming: &mut Incoming, durable: bool, problems: &mut Vec<Problem>) {
        let snapshot = self.snapshot();
        for entry in self.storage.list(INCOMING).unwrap_or_default() {
            let path = join(INCOMING, &entry.name);
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
                // The upload's head never became durable, its file was installed, or its publisher is no longer
                // trusted.
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

    /// Compares the names and lengths of the existing adapters with the referenced ones.
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

/// Lists a directory. On a read-only disk it may be missing; an unreadable one is reported as a problem.
fn entries(storage: &dyn Storage, directory: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    storage.list(directory).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            problems.push(Problem {
                file: directory.to_owned(),
                kind: ProblemKind::of(&error),
            });
        }
        Vec::new()
    })
}

/// Files that differ from their copies.
#[derive(Default)]
struct Stale {
    /// Tasks whose records differ from their copies.
    records: Vec<String>,
    active: bool,
    time: bool,
}

fn read_snapshot(storage: &dyn Storage, problems: &mut Vec<Problem>) -> (Snapshot, Stale) {
    let (mut snapshot, mut stale) = (Snapshot::default(), Stale::default());
    let mut tasks = BTreeSet::new();
    for directory in [TASKS, COPIES] {
        for Entry { name, kind, .. } in entries(storage, directory, problems) {
            match names::decode(&name) {
                Some(task) if kind != EntryKind::Other => drop(tasks.insert(task)),
                _ if kind == EntryKind::File && is_unfinished(&name) => {}
                _ => problems.push(Problem {
                    file: join(directory, &name),
                    kind: ProblemKind::Unknown,
                }),
            }
        }
    }
    for task in tasks {
        let Ok(name) = encoded(&task) else { continue };
        let (path, copy) = (join(TASKS, &name), copies::of_record(&name));
        let found = copies::read(storage, &path, &copy, record::LARGEST, |file| of_task(file, &task));
        problems.extend(found.problems);
        match found.value {
            Some(record) => {
                if !found.in_line {
                    stale.records.push(task.clone());
                }
                snapshot.records.insert(task, Arc::new(record));
            }
            None => drop(snapshot.damaged.insert(task)),
        }
    }
    for Entry { name, kind, .. } in entries(storage, EXAMPLES, problems) {
        if let Some(task) = names::decode(&name).filter(|_| kind == EntryKind::Directory) {
            snapshot.taught.insert(task);
        }
    }
    let copy = copies::of_root(ACTIVE);
    let names = copies::read(storage, ACTIVE, &copy, record::LARGEST, active::parse);
    snapshot.active_lost = names.value.is_none() && !names.problems.is_empty();
    snapshot.active = names.value.unwrap_or_default();
    stale.active = !names.in_line && !snapshot.active_lost;
    problems.extend(names.problems);
    let time = copies::read(storage, TIME, &copies::of_root(TIME), record::LARGEST, time::parse);
    snapshot.time = time.value;
    stale.time = !time.in_line && time.value.is_some();
    problems.extend(time.problems);
    (snapshot, stale)
}

fn of_task(file: &[u8], task: &str) -> Result<Record, Damage> {
    let record = Record::from_bytes(file)?;
    if record.state.task == task {
        Ok(record)
    } else {
        Err(Damage::Name)
    }
}

pub(crate) fn read_record(storage: &dyn Storage, file: &str, task: &str) -> Result<Record, ProblemKind> {
    let bytes = read_file(storage, file, record::LARGEST).map_err(|error| ProblemKind::of(&error))?;
    of_task(&bytes, task).map_err(ProblemKind::Damaged)
}
