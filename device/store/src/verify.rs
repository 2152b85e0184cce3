//! Verification of all files in a store.

use std::io;

use crate::{
    active,
    atomic::is_unfinished,
    copies,
    error::StoreError,
    examples, incoming,
    layout::{
        ACTIVE, ADAPTER_ENDING, ADAPTERS, CHECKPOINTS, COPIES, DIRECTORIES, EXAMPLES, INCOMING, LOCK, TASKS, TIME,
        adapter_path, checkpoint_of, encoded, examples_of, join,
    },
    names,
    problem::{Problem, ProblemKind},
    record, sealed,
    storage::{Entry, EntryKind, read_file},
    store::{Store, read_record},
};

/// Report of [`Store::verify`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Number of tasks.
    pub tasks: usize,
    /// Number of intact, trusted adapters.
    pub adapters: usize,
    /// Number of intact labelled images.
    pub examples: usize,
    /// Number of intact tuning checkpoints.
    pub checkpoints: usize,
    /// Number of uploads in progress.
    pub uploads: usize,
    /// Bytes of all files of the store.
    pub bytes: u64,
    /// All problems that were found.
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
                    let expected = active::contents(&self.snapshot().active);
                    self.verify_sealed(name, sealed::ACTIVE, expected.as_bytes(), report);
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

    /// Compares the files in `directory`, the records or their copies, with the state in memory.
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
        let copies = self.verify_records(COPIES, report)?;
        for (task, record) in &snapshot.records {
            report.tasks += usize::from(record.is_live());
            let name = encoded(task)?;
            for (directory, entries) in [(TASKS, &records), (COPIES, &copies)] {
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
        for Entry { name, kind, .. } in self.entries(INCOMING, report)? {
            let file = join(INCOMING, &name);
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
        for Entry { name, kind, .. } in self.entries(CHECKPOINTS, report)? {
            let file = checkpoint_of(&name);
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
        for Entry { name: task, kind, .. } in self.entries(EXAMPLES, report)? {
            let directory = examples_of(&task);
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
