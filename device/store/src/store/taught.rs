//! Tasks that have examples.

use std::sync::Arc;

use super::{Snapshot, Store, Writer};
use crate::{
    atomic::is_unfinished,
    layout::{EXAMPLES, examples_of},
    names,
    storage::EntryKind,
};

impl Store {
    /// Records whether a task has examples.
    pub(crate) fn note_taught(&self, task: &str, taught: bool) {
        let before = self.snapshot();
        if before.taught.contains(task) != taught {
            let mut after = Snapshot::clone(&before);
            if taught {
                after.taught.insert(task.to_owned());
            } else {
                after.taught.remove(task);
            }
            self.snapshot.store(Arc::new(after));
        }
    }

    /// Removes temporary files from the last run, and directories without an example.
    pub(super) fn clean_examples(&self, _: &mut Writer) {
        let entries = self.storage.list(EXAMPLES).unwrap_or_default();
        let tasks = entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory);
        let tasks = tasks.filter_map(|entry| Some((names::decode(&entry.name)?, examples_of(&entry.name))));
        let (tasks, directories): (Vec<_>, Vec<_>) = tasks.unzip();
        // After opening, every readable example must be durable.
        if let Err(error) = self.storage.sync_directories(&directories) {
            tracing::warn!(%error, "cannot remove leftovers of examples");
            return;
        }
        for (task, directory) in tasks.iter().zip(&directories) {
            let Ok(entries) = self.storage.list(directory) else {
                continue;
            };
            let mut left = entries.len();
            for file in entries.iter().filter(|file| is_unfinished(&file.name)) {
                self.remove_leftover(&format!("{directory}/{}", file.name));
                left -= 1;
            }
            if left == 0 {
                match self.storage.remove_directory(directory) {
                    Ok(()) => self.note_taught(task, false),
                    Err(error) => tracing::warn!(directory, %error, "cannot remove an empty directory"),
                }
            }
        }
    }
}
