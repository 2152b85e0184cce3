//! Caps on tasks and bytes, and the space reserved for records.
//!
//! Records, adapters and uploads are counted in memory. Examples and run states are counted on the disk once, at the
//! first write that needs the number, and the number is updated from then on.

use std::{collections::BTreeMap, io};

use super::{Snapshot, Store, Writer};
use crate::{
    error::StoreError,
    layout::{CHECKPOINTS, EXAMPLES, examples_of},
    storage::{BLOCK, Entry, EntryKind, on_disk},
};

/// Bytes for a record, its copy and a temporary file.
const RECORD: u64 = 3 * BLOCK;

/// Bytes used by examples and run states on the disk.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) examples: u64,
    /// Bytes of checkpoints, by encoded task name.
    pub(crate) checkpoints: BTreeMap<String, u64>,
}

impl Usage {
    fn total(&self) -> u64 {
        self.checkpoints.values().sum::<u64>() + self.examples
    }
}

impl Store {
    /// Counts examples and run states, unless they have already been counted.
    pub(crate) fn usage<'a>(&self, writer: &'a mut Writer) -> Result<&'a mut Usage, StoreError> {
        if writer.usage.is_none() {
            let files = |directory: &str| match self.storage.list(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                entries => entries.map_err(StoreError::io("list", directory)),
            };
            let mut usage = Usage::default();
            for Entry { name, kind, .. } in files(EXAMPLES)? {
                if kind == EntryKind::Directory {
                    // An unreadable file must not prevent an upload.
                    let entries = self.storage.list(&examples_of(&name)).unwrap_or_default();
                    usage.examples += entries.iter().map(|entry| on_disk(entry.bytes)).sum::<u64>();
                }
            }
            for Entry { name, bytes, .. } in files(CHECKPOINTS)? {
                usage.checkpoints.insert(name, on_disk(bytes));
            }
            writer.usage = Some(usage);
        }
        Ok(writer.usage.get_or_insert_default())
    }

    /// Returns the bytes of the store on the disk.
    fn used(&self, writer: &mut Writer) -> Result<u64, StoreError> {
        let snapshot = self.snapshot();
        let records = snapshot.records.len() as u64 * RECORD;
        let held = snapshot.records.values().flat_map(|record| record.state.candidates());
        let adapters: u64 = held.map(|held| on_disk(held.bytes)).sum();
        let uploads = writer.incoming.announced();
        Ok(self.usage(writer)?.total() + records + adapters + uploads)
    }

    /// Refuses to write `more` bytes if they would use space reserved for records, within the store's cap or on the
    /// disk.
    pub(crate) fn check_room(&self, writer: &mut Writer, more: u64) -> Result<(), StoreError> {
        let caps = &self.options.caps;
        let more = on_disk(more);
        let (cap, got) = (
            caps.state_bytes.saturating_sub(caps.reserve_bytes),
            self.used(writer)?.saturating_add(more),
        );
        if got > cap {
            return Err(StoreError::Full {
                what: "bytes of the store",
                cap,
                got,
                hint: "remove examples or tasks, or raise `limits.state_bytes`",
            });
        }
        // If the free space is unknown, the write itself reports a full disk.
        let cap = self
            .storage
            .free()
            .map_or(u64::MAX, |free| free.saturating_sub(caps.reserve_bytes));
        if more > cap {
            return Err(StoreError::Full {
                what: "bytes to write to the disk, in addition to the reserve for records",
                cap,
                got: more,
                hint: "free some space on the disk that holds the state folder",
            });
        }
        Ok(())
    }

    /// Refuses another task beyond the cap.
    pub(crate) fn check_task_cap(&self, task: &str) -> Result<(), StoreError> {
        let (snapshot, cap) = (self.snapshot(), self.options.caps.tasks);
        if snapshot.is_known(task) || snapshot.known() < cap {
            return Ok(());
        }
        Err(StoreError::Full {
            what: "tasks",
            cap: cap as u64,
            got: cap as u64 + 1,
            hint: "remove a task (`clr device list` names them, those too that only have taught images), or raise `limits.tasks`",
        })
    }

    /// Returns the tasks with examples but no adapter, sorted by name.
    #[must_use]
    pub fn taught_only(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        let taught = snapshot.taught.iter();
        taught.filter(|task| snapshot.record(task).is_err()).cloned().collect()
    }
}

impl Snapshot {
    fn is_known(&self, task: &str) -> bool {
        self.records.contains_key(task) || self.taught.contains(task) || self.damaged.contains(task)
    }

    /// Returns the number of tasks that count towards the cap.
    fn known(&self) -> usize {
        let without_record = |task: &&String| !self.records.contains_key(*task);
        self.records.len() + self.taught.iter().chain(&self.damaged).filter(without_record).count()
    }
}
