//! Record of a task: its state, and data that outlive its adapters.

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    problem::Damage,
    sealed,
    state::{Reversion, StoredAdapter, StoredTask},
};

/// Maximum number of known digests. An older file is still refused because of its version, as a downgrade instead of a
/// replay.
const KNOWN: usize = 64;
/// Maximum bytes of a record: a name, a reason and [`KNOWN`] digests.
pub(crate) const LARGEST: u64 = 16 << 10;

/// Contents of `root/tasks/<encoded name>`, in postcard. Every change to a task commits when this file is replaced.
/// `root/copies/<encoded name>` has the same contents and is written afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) state: StoredTask,
    /// Digests of adapters that were admitted from a publisher or confirmed on this device, the latest last.
    pub(crate) known: Vec<Digest>,
    /// The task is being removed: the next step deletes its examples, run state and entry as the active task.
    pub(crate) erasing: bool,
}

impl Record {
    pub(crate) fn new(task: &str) -> Self {
        Self {
            state: StoredTask::new(task),
            known: Vec::new(),
            erasing: false,
        }
    }

    /// Returns whether the task has an adapter. A record without one only keeps the highest admitted version.
    pub(crate) fn is_live(&self) -> bool {
        self.state.candidates().next().is_some()
    }

    /// Returns whether the task is listed: it has an adapter, or a reverted one.
    pub(crate) fn is_listed(&self) -> bool {
        self.is_live() || self.state.reverted.is_some()
    }

    /// Returns whether the record contains no information.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_live() && self.state.highest_admitted == 0 && self.known.is_empty() && self.state.reverted.is_none()
    }

    pub(crate) fn is_on_trial(&self, digest: &Digest) -> bool {
        self.state.trial.is_some_and(|trial| trial.held.digest == *digest)
    }

    /// Admits an adapter on trial.
    pub(crate) fn admit(&mut self, held: StoredAdapter) {
        self.state.admit(held);
        if !held.tuned {
            self.remember(&held);
        }
    }

    pub(crate) fn remember(&mut self, held: &StoredAdapter) {
        self.known.retain(|known| *known != held.digest);
        self.known.push(held.digest);
        let excess = self.known.len().saturating_sub(KNOWN);
        self.known.drain(..excess);
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Damage> {
        let contents = postcard::to_allocvec(self).map_err(|_| Damage::Form)?;
        Ok(sealed::seal(sealed::RECORD, &contents))
    }

    pub(crate) fn from_bytes(file: &[u8]) -> Result<Self, Damage> {
        let contents = match sealed::open(sealed::RECORD, file) {
            Err(Damage::Magic) => {
                let first: First = parse(sealed::open(sealed::RECORD_1, file)?)?;
                return Ok(first.into());
            }
            contents => contents?,
        };
        parse(contents)
    }
}

fn parse<'a, T: Deserialize<'a>>(contents: &'a [u8]) -> Result<T, Damage> {
    match postcard::take_from_bytes(contents) {
        Ok((value, [])) => Ok(value),
        _ => Err(Damage::Form),
    }
}

/// A record of format 1. Its highest admitted version was the highest version ever *confirmed*, and its trial counted
/// starts.
#[derive(Serialize, Deserialize)]
struct First {
    task: String,
    confirmed: Option<StoredAdapter>,
    trial: Option<(StoredAdapter, u32)>,
    last_good: Option<StoredAdapter>,
    restore: Option<StoredAdapter>,
    highest_admitted: u64,
    reverted: Option<Reversion>,
    known: Vec<Digest>,
    erasing: bool,
}

impl From<First> for Record {
    fn from(first: First) -> Self {
        let mut record = Self {
            state: StoredTask {
                task: first.task,
                confirmed: first.confirmed,
                trial: None,
                last_good: first.last_good,
                restore: first.restore,
                highest_admitted: first.highest_admitted,
                reverted: first.reverted,
                confirmation: 0,
            },
            known: first.known,
            erasing: first.erasing,
        };
        // Format 1 counted every start, whatever ended the previous run, so the count is discarded.
        if let Some((held, _starts)) = first.trial {
            record.admit(held);
        }
        record
    }
}
