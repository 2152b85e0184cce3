//! Salvage of a task from its adapters after the loss of the record and its copy.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use clr_adapters::{Digest, SignerClass};

use super::{Snapshot, Store};
use crate::{
    atomic, copies,
    layout::{ADAPTER_ENDING, ADAPTERS, TASKS, adapter_path, encoded, join},
    names,
    problem::{Problem, ProblemKind, Recovery},
    record::Record,
    state::StoredAdapter,
    storage::read_file,
};

impl Store {
    /// Rebuilds damaged records from intact adapters.
    pub(super) fn salvage_records(&self, durable: bool, problems: &mut [Problem]) {
        let before = self.snapshot();
        if before.damaged.is_empty() {
            return;
        }
        let mut found = self.unreferenced_adapters(&before);
        let mut after = Snapshot::clone(&before);
        for task in &before.damaged {
            let Some(record) = found.remove(task).and_then(|held| from_adapters(task, held)) else {
                continue;
            };
            let Ok(name) = encoded(task) else { continue };
            let (path, copy) = (join(TASKS, &name), copies::of_record(&name));
            let recovery = Recovery::Adapters {
                version: record.state.candidates().next().map_or(0, |held| held.version),
                highest_admitted: record.state.highest_admitted,
            };
            for problem in problems.iter_mut().filter(|problem| problem.file == path) {
                let fault = Box::new(problem.kind.clone());
                problem.kind = ProblemKind::Recovered { fault, recovery };
            }
            // On a read-only disk, the record is salvaged again at each start.
            if let (true, Ok(bytes)) = (durable, record.to_bytes()) {
                match atomic::replace(&*self.storage, &path, &bytes, None) {
                    Ok(()) => _ = copies::mirror(&*self.storage, &copy, &bytes),
                    Err(failure) => {
                        tracing::warn!(task, error = %failure.into_error(), "cannot write a salvaged record");
                    }
                }
            }
            after.damaged.remove(task);
            after.records.insert(task.clone(), Arc::new(record));
        }
        self.snapshot.store(Arc::new(after.listed()));
    }

    /// Returns intact adapters of trusted signers that no record refers to, by task. Every adapter in the store was
    /// admitted once.
    pub(super) fn unreferenced_adapters(&self, snapshot: &Snapshot) -> BTreeMap<String, Vec<StoredAdapter>> {
        let mut found: BTreeMap<String, Vec<StoredAdapter>> = BTreeMap::new();
        for entry in self.storage.list(ADAPTERS).unwrap_or_default() {
            let digest = entry.name.strip_suffix(ADAPTER_ENDING).and_then(names::digest);
            let Some(digest) = digest.filter(|digest| !snapshot.is_referenced(digest)) else {
                continue;
            };
            let cap = self.options.limits.file_bytes as u64;
            let Ok(bytes) = read_file(&*self.storage, &adapter_path(&digest), cap) else {
                continue;
            };
            let Ok(admitted) = self.admit(&bytes, None) else {
                continue;
            };
            if Digest::of(&bytes) != digest {
                continue;
            }
            let header = &admitted.decoded.adapter.header;
            let signer = admitted.signer.map(|signer| signer.class);
            found.entry(header.task.clone()).or_default().push(StoredAdapter {
                digest,
                version: header.version,
                revision: header.revision,
                bytes: entry.bytes,
                tuned: signer == Some(SignerClass::Device),
            });
        }
        found
    }
}

/// Builds a record in which the newest adapter serves. If there is another adapter, the newest one is on trial again,
/// because it may not have been confirmed.
fn from_adapters(task: &str, mut held: Vec<StoredAdapter>) -> Option<Record> {
    held.sort_by_key(|held| Reverse((held.version, held.revision)));
    let mut record = Record::new(task);
    for held in held.iter().rev() {
        record.remember(held);
    }
    let state = &mut record.state;
    let published = |held: &[StoredAdapter]| held.iter().find(|held| !held.tuned).copied();
    match held[..] {
        [] => return None,
        [only] => {
            state.confirmed = Some(only);
            state.highest_admitted = published(&held).map_or(0, |held| held.version);
        }
        [newest, ref older @ ..] => {
            state.confirmed = older.first().copied();
            state.last_good = older.get(1).copied();
            state.highest_admitted = published(older).map_or(0, |held| held.version);
            state.admit(newest);
        }
    }
    let tuned = [state.confirmed, state.last_good]
        .into_iter()
        .flatten()
        .any(|held| held.tuned);
    state.restore = published(&held).filter(|_| tuned);
    Some(record)
}
