//! Verification of all files in a store.

use std::{fmt, io};

use clr_adapters::{Digest, Refusal};

use crate::{
    checkpoints, copies,
    error::{Damage, StoreError},
    examples, incoming, names, record, sealed,
    storage::{Entry, EntryKind, read_file},
    store::{
        ACTIVE, ADAPTER_ENDING, ADAPTERS, DIRECTORIES, LOCK, Store, TASKS, TIME, adapter_path, encoded, is_unfinished,
        join, read_record,
    },
};

/// A problem with a file of the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The file, relative to the store.
    pub file: String,
    /// The kind of problem.
    pub kind: ProblemKind,
}

/// Kind of a problem with a file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A record refers to the file, but it is missing.
    Missing,
    /// The file cannot be read, for the system's reason.
    Unreadable(String),
    /// Its contents are damaged.
    Damaged(Damage),
    /// The length of an adapter differs from its record.
    Length {
        /// Bytes in the record.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// An adapter's bytes do not match its name.
    Digest {
        /// The digest of the bytes found.
        got: Digest,
    },
    /// An adapter that would be refused now, for example because its key is no longer trusted.
    Refused(Box<Refusal>),
    /// An adapter of another task than its record.
    OtherTask {
        /// Its task.
        got: String,
    },
    /// A record that differs from the state in memory, because another program changed it.
    Changed,
    /// The file is damaged or missing, and was recovered.
    Recovered {
        /// The problem.
        fault: Box<ProblemKind>,
        /// The recovery.
        recovery: Recovery,
    },
    /// Not a file of a store.
    Unknown,
    /// Nothing refers to the file. It is removed when the store is opened and all records can be read.
    Leftover,
}

/// Recovery of a damaged or missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// Its copy.
    Copy,
    /// The record was salvaged from the task's adapters, of which the newest intact one serves.
    Adapters {
        /// The version that serves.
        version: u64,
        /// The highest version found. The highest admitted version may have been higher before.
        highest_admitted: u64,
    },
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("its copy is used"),
            Self::Adapters {
                version,
                highest_admitted,
            } => write!(
                f,
                "salvaged from the task's adapters: version {version} serves, versions above {highest_admitted} are accepted"
            ),
        }
    }
}

impl ProblemKind {
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.file, self.kind)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
            Self::Damaged(damage) => write!(f, "is damaged: {damage}"),
            Self::Length { expected, got } => write!(f, "has {got} bytes, expected {expected}"),
            Self::Digest { got } => write!(f, "has the digest {got}, not the one in its name"),
            Self::Refused(refusal) => {
                // The hint is for the sender of a file.
                let text = refusal.to_string();
                write!(f, "is refused: {}", text.lines().next().unwrap_or_default())
            }
            Self::OtherTask { got } => write!(f, "is of task `{got}`"),
            Self::Changed => f.write_str("was changed by another program"),
            Self::Recovered { fault, recovery } => write!(f, "{fault}; {recovery}"),
            Self::Unknown => f.write_str("is not a file of this store"),
            Self::Leftover => f.write_str("is left over"),
        }
    }
}

impl Problem {
    pub(crate) fn into_error(self) -> StoreError {
        let Self { file, kind } = self;
        match kind {
            ProblemKind::Missing => StoreError::io("read", &file)(io::Error::from(io::ErrorKind::NotFound)),
            ProblemKind::Unreadable(reason) => StoreError::io("read", &file)(io::Error::other(reason)),
            ProblemKind::Length { .. } => StoreError::Damaged {
                file,
                damage: Damage::Short,
            },
            _ => StoreError::Damaged {
                file,
                damage: Damage::Name,
            },
        }
    }
}

/// Report of [`Store::verify`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Tasks.
    pub tasks: usize,
    /// Intact, trusted adapters.
    pub adapters: usize,
    /// Intact labelled images.
    pub examples: usize,
    /// Intact tuning checkpoints.
    pub checkpoints: usize,
    /// Uploads in progress.
    pub uploads: usize,
    /// Bytes of all files of the store.
    pub bytes: u64,
    /// All problems; empty without any.
    pub problems: Vec<Problem>,
}

impl Report {
    fn problem(&mut self, file: String, kind: ProblemKind) {
        self.problems.push(Problem { file, kind });
    }
}

impl Store {
    /// Reads and checks every file. Blocks writers during this time, except while the examples are read. Readers are
    /// not blocked.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a directory cannot be listed. Problems with files are part of the report.
    pub fn verify(&self) -> Result<Report, StoreError> {
        let mut report = Report::default();
        let writer = self.writer();
        self.verify_root(&mut report)?;
        self.verify_tasks(&mut report)?;
        self.verify_uploads(&writer.incoming, &mut report)?;
        self.verify_checkpoints(&mut report)?;
        drop(writer);
        self.verify_examples(&mut report)?;
        report.problems.sort_by(|one, other| one.file.cmp(&other.file));
        Ok(report)
    }

    fn entries(&self, directory: &str, report: &mut Report) -> Result<Vec<Entry>, StoreError> {
        let entries = match self.storage.list(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report.problem(directory.to_owned(), ProblemKind::Missing);
                Vec::new()
            }
            entries => entries.map_err(StoreError::io("list", directory))?,
        };
        report.bytes += entries.iter().map(|entry| entry.bytes).sum::<u64>();
        Ok(entries)
    }

    fn verify_root(&self, report: &mut Report) -> Result<(), StoreError> {
        for Entry { name, kind, .. } in self.entries("", report)? {
            match (name.as_str(), kind) {
                (LOCK, EntryKind::File) => {}
                (of_active, EntryKind::File) if of_active == ACTIVE || of_active == copies::of_root(ACTIVE) => {
                    let snapshot = self.snapshot();
                    let expected = snapshot.active.as_deref().unwrap_or_default().as_bytes();
                    self.verify_sealed(name, sealed::ACTIVE, expected, report);
                }
                (of_time, EntryKind::File) if of_time == TIME || of_time == copies::of_root(TIME) => {
                    let expected = self.time_floor().unwrap_or_default().to_le_bytes();
                    self.verify_sealed(name, sealed::TIME, &expected, report);
                }
                (directory, EntryKind::Directory) if DIRECTORIES.contains(&directory) => {}
                _ if is_unfinished(&name) => report.problem(name, ProblemKind::Leftover),
                _ => report.problem(name, ProblemKind::Unknown),
            }
        }
        Ok(())
    }

    fn verify_sealed(&self, name: String, magic: [u8; 8], expected: &[u8], report: &mut Report) {
        match sealed::read(&*self.storage, &name, magic, record::LARGEST) {
            Ok(contents) if contents == expected => {}
            Ok(_) => report.problem(name, ProblemKind::Changed),
            Err(StoreError::Damaged { damage, .. }) => report.problem(name, ProblemKind::Damaged(damage)),
            Err(error) => report.problem(name, ProblemKind::Unreadable(error.to_string())),
        }
    }

    /// Compares the records or their copies with the state in memory.
    fn verify_records(&self, directory: &str, report: &mut Report) -> Result<Vec<Entry>, StoreError> {
        let snapshot = self.snapshot();
        let records = self.entries(directory, report)?;
        for Entry { name, kind, .. } in &records {
            let file = join(directory, name);
            match names::decode(name).filter(|_| *kind == EntryKind::File) {
                Some(task) => match read_record(&*self.storage, &file, &task) {
                    Ok(record) if snapshot.records.get(&task).is_some_and(|known| **known == record) => {}
                    Ok(_) => report.problem(file, ProblemKind::Changed),
                    Err(kind) => report.problem(file, kind),
                },
                None if is_unfinished(name) => report.problem(file, ProblemKind::Leftover),
                None => report.problem(file, ProblemKind::Unknown),
            }
        }
        Ok(records)
    }

    fn verify_tasks(&self, report: &mut Report) -> Result<(), StoreError> {
        let snapshot = self.snapshot();
        let records = self.verify_records(TASKS, report)?;
        let copies = self.verify_records(copies::DIRECTORY, report)?;
        for (task, record) in &snapshot.records {
            report.tasks += usize::from(record.is_live());
            let name = encoded(task)?;
            for (directory, entries) in [(TASKS, &records), (copies::DIRECTORY, &copies)] {
                if !entries.iter().any(|entry| entry.name == name) {
                    report.problem(join(directory, &name), ProblemKind::Missing);
                }
            }
            for held in record.state.candidates() {
                match self.load(task, &held) {
                    Ok(_) => report.adapters += 1,
                    Err(problem) => report.problems.push(problem),
                }
            }
        }
        for Entry { name, kind, .. } in self.entries(ADAPTERS, report)? {
            let digest = name.strip_suffix(ADAPTER_ENDING).and_then(names::digest);
            match digest.filter(|_| kind == EntryKind::File) {
                Some(digest) if snapshot.is_referenced(&digest) => {}
                Some(digest) => report.problem(adapter_path(&digest), ProblemKind::Leftover),
                None if is_unfinished(&name) => report.problem(join(ADAPTERS, &name), ProblemKind::Leftover),
                None => report.problem(join(ADAPTERS, &name), ProblemKind::Unknown),
            }
        }
        Ok(())
    }

    fn verify_uploads(&self, uploads: &incoming::Incoming, report: &mut Report) -> Result<(), StoreError> {
        for Entry { name, kind, .. } in self.entries(incoming::DIRECTORY, report)? {
            let file = join(incoming::DIRECTORY, &name);
            let digest = name.strip_suffix(incoming::ENDING).and_then(names::digest);
            match digest.filter(|_| kind == EntryKind::File) {
                Some(digest) if uploads.contains(&digest) => report.uploads += 1,
                Some(_) => report.problem(file, ProblemKind::Leftover),
                None => report.problem(file, ProblemKind::Unknown),
            }
        }
        Ok(())
    }

    fn verify_checkpoints(&self, report: &mut Report) -> Result<(), StoreError> {
        let cap = self.checkpoint_cap() + sealed::OVERHEAD as u64;
        for Entry { name, kind, .. } in self.entries(checkpoints::DIRECTORY, report)? {
            let file = checkpoints::path(&name);
            if is_unfinished(&name) {
                report.problem(file, ProblemKind::Leftover);
            } else if kind != EntryKind::File || names::decode(&name).is_none() {
                report.problem(file, ProblemKind::Unknown);
            } else {
                match sealed::read(&*self.storage, &file, sealed::CHECKPOINT, cap) {
                    Ok(_) => report.checkpoints += 1,
                    Err(StoreError::Damaged { damage, .. }) => report.problem(file, ProblemKind::Damaged(damage)),
                    Err(error) => report.problem(file, ProblemKind::Unreadable(error.to_string())),
                }
            }
        }
        Ok(())
    }

    fn verify_examples(&self, report: &mut Report) -> Result<(), StoreError> {
        for Entry { name: task, kind, .. } in self.entries(examples::DIRECTORY, report)? {
            let directory = examples::directory(&task);
            if kind != EntryKind::Directory || names::decode(&task).is_none() {
                report.problem(directory, ProblemKind::Unknown);
                continue;
            }
            let Ok(entries) = self.storage.list(&directory) else {
                continue;
            };
            for Entry { name, kind, bytes } in entries {
                let file = join(&directory, &name);
                if is_unfinished(&name) {
                    // With the writer's lock, an existing temporary file is a leftover and not one being written.
                    let _writer = self.writer();
                    if self.storage.length(&file).is_ok() {
                        report.problem(file, ProblemKind::Leftover);
                    }
                    continue;
                }
                report.bytes += bytes;
                if kind != EntryKind::File || names::digest(&name).is_none() {
                    report.problem(file, ProblemKind::Unknown);
                    continue;
                }
                let cap = self.options.caps.example_bytes.saturating_add(4 << 10);
                match read_file(&*self.storage, &file, cap) {
                    Ok(contents) => match examples::parse_file(&name, &contents) {
                        Ok(_) => report.examples += 1,
                        Err(damage) => report.problem(file, ProblemKind::Damaged(damage)),
                    },
                    // Removed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => report.problem(file, ProblemKind::of(&error)),
                }
            }
        }
        Ok(())
    }
}
