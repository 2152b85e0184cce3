//! Removal of a task with all its files. The record is marked first, so that an interrupted removal can be finished
//! later.

use std::{io, sync::Arc};

use super::{Snapshot, Store, Writer};
use crate::{
    atomic::Failure,
    copies,
    error::StoreError,
    layout::{CHECKPOINTS, EXAMPLES, checkpoint_of, encoded, examples_of, record_path},
    record::Record,
    state::StoredTask,
};

impl Store {
    /// Removes a task: its adapters, examples and run state. The highest admitted version is kept, so that removing a
    /// task does not allow older versions. The last confirmed version may be installed again.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`] if there is no such task; [`StoreError::Io`] if the removal cannot be recorded. Files
    /// that cannot be removed now are removed later.
    pub fn remove(&self, task: &str) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let snapshot = self.snapshot();
        let mut record = match snapshot.record(task) {
            Ok(record) => Record::clone(record),
            // No adapter of the task is intact; otherwise the store would have salvaged the record.
            Err(StoreError::DamagedRecord { .. }) => Record::new(task),
            Err(error) if !self.has_belongings(task) => return Err(error),
            // The task has examples without an adapter, or a record that only keeps the highest admitted version.
            Err(_) => snapshot
                .records
                .get(task)
                .map_or_else(|| Record::new(task), |record| Record::clone(record)),
        };
        record.state = StoredTask {
            highest_admitted: record.state.highest_admitted,
            ..StoredTask::new(task)
        };
        record.erasing = true;
        self.put(&mut writer, record).map_err(Failure::into_error)?;
        if let Err(error) = self.finish_erasing(&mut writer, task) {
            tracing::warn!(task, %error, "task removed, but not yet all of its files; they are removed later");
        }
        // Adapters kept because of a damaged record.
        self.sweep(&self.snapshot());
        Ok(())
    }

    /// Returns whether the task has files in addition to its record.
    fn has_belongings(&self, task: &str) -> bool {
        let Ok(name) = encoded(task) else { return false };
        let pending = self.snapshot().records.get(task).is_some_and(|record| record.erasing);
        let examples = self
            .storage
            .list(&examples_of(&name))
            .is_ok_and(|entries| !entries.is_empty());
        !pending && (examples || self.storage.length(&checkpoint_of(&name)).is_ok())
    }

    /// Removes the files of a task whose record is marked as being removed.
    pub(crate) fn finish_erasing(&self, writer: &mut Writer, task: &str) -> Result<(), StoreError> {
        let snapshot = self.snapshot();
        let Some(record) = snapshot.records.get(task).filter(|record| record.erasing) else {
            return Ok(());
        };
        let name = encoded(task)?;
        let directory = examples_of(&name);
        for entry in absent_is_empty(self.storage.list(&directory), "list", &directory)? {
            let path = format!("{directory}/{}", entry.name);
            self.storage.remove(&path).map_err(StoreError::io("remove", &path))?;
        }
        absent_is_empty(self.storage.remove_directory(&directory), "remove", &directory)?;
        self.sync(EXAMPLES)?;
        let checkpoint = checkpoint_of(&name);
        absent_is_empty(self.storage.remove(&checkpoint), "remove", &checkpoint)?;
        self.sync(CHECKPOINTS)?;
        self.forget_belongings(writer, task);
        if snapshot.active.iter().any(|active| active == task) {
            let rest = snapshot.active.iter().filter(|active| *active != task);
            self.put_active(writer, rest.cloned().collect())?;
        }
        let record = Record {
            erasing: false,
            ..Record::clone(record)
        };
        let is_empty = record.is_empty();
        self.put(writer, record).map_err(Failure::into_error)?;
        if is_empty {
            self.forget(task)?;
        }
        Ok(())
    }

    /// Removes an empty record. A power cut may restore it, but it is still empty.
    pub(crate) fn forget(&self, task: &str) -> Result<(), StoreError> {
        let path = record_path(task)?;
        // The copy is removed first, because a copy without a record would be used as the record.
        let copy = copies::of_record(&encoded(task)?);
        copies::remove(&*self.storage, &copy).map_err(StoreError::io("remove", &copy))?;
        self.storage.remove(&path).map_err(StoreError::io("remove", &path))?;
        let mut after = Snapshot::clone(&self.snapshot());
        after.records.remove(task);
        self.snapshot.store(Arc::new(after));
        Ok(())
    }

    /// Updates the usage counters after the removal of a task's examples and run state.
    fn forget_belongings(&self, writer: &mut Writer, task: &str) {
        // Counted again at the next use.
        writer.usage = None;
        let mut after = Snapshot::clone(&self.snapshot());
        if after.taught.remove(task) {
            self.snapshot.store(Arc::new(after));
        }
    }

    fn sync(&self, directory: &str) -> Result<(), StoreError> {
        self.storage
            .sync_directory(directory)
            .map_err(StoreError::io("sync", directory))
    }
}

/// Treats a missing file or directory as empty.
fn absent_is_empty<T: Default>(result: io::Result<T>, action: &'static str, path: &str) -> Result<T, StoreError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        result => result.map_err(StoreError::io(action, path)),
    }
}
