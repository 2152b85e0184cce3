//! What could not be written to the store yet, though it is in force in memory: verdicts on trials. It is tried again until it is written.

use std::time::{Duration, Instant};

use clr_adapters::Digest;
use clr_store::StoreError;

use super::{Runtime, lock, stamp, with_causes};

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(5);

/// A change of a task's trial that the disk did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// The adapter failed, and does not serve any more.
    Revert {
        digest: Digest,
        reason: String,
        at: Option<u64>,
    },
    /// The adapter may have brought the device down. It does not serve until that is noted, or it would bring it down at every start.
    Count { blamed: bool },
    /// The adapter is about to be used for the first time. It does not serve until that is noted, for the same reason.
    Use { digest: Digest },
}

/// By task, the latest last.
#[derive(Debug, Default)]
pub(super) struct Debts {
    owed: Vec<(String, Owed)>,
    tried: Option<Instant>,
}

impl Runtime {
    pub(super) fn owe(&self, task: &str, owed: Owed) {
        let debts = &mut lock(&self.debts).owed;
        debts.retain(|(name, known)| name != task || std::mem::discriminant(known) != std::mem::discriminant(&owed));
        debts.push((task.to_owned(), owed));
    }

    /// Whether this adapter failed its trial, and that is not written yet.
    pub(super) fn has_failed(&self, task: &str, digest: &Digest) -> bool {
        let debts = lock(&self.debts);
        debts
            .owed
            .iter()
            .any(|(name, owed)| name == task && matches!(owed, Owed::Revert { digest: failed, .. } if failed == digest))
    }

    /// In words, for health.
    pub(super) fn debts(&self) -> Vec<String> {
        let debts = lock(&self.debts);
        let text = |(task, owed): &(String, Owed)| match owed {
            Owed::Revert { reason, .. } => {
                format!("task `{task}`: its adapter on trial failed ({reason}), which cannot be written to the disk")
            }
            Owed::Count { .. } | Owed::Use { .. } => {
                format!("task `{task}`: its adapter on trial waits until its use can be written to the disk")
            }
        };
        debts.owed.iter().map(text).collect()
    }

    /// Writes what is owed, now and then, or at once.
    pub(crate) fn settle(&self, at_once: bool) {
        let now = Instant::now();
        let owed = {
            let mut debts = lock(&self.debts);
            let rests = debts.tried.is_some_and(|tried| now.duration_since(tried) < AGAIN);
            if debts.owed.is_empty() || rests && !at_once {
                return;
            }
            debts.tried = Some(now);
            debts.owed.clone()
        };
        for (task, owed) in owed {
            let changing = self.serving.lock_updates();
            let (result, reload) = match &owed {
                Owed::Revert { digest, reason, at } => (self.store.revert(&task, digest, reason, *at).map(drop), false),
                Owed::Use { digest } => (self.store.begin_use(&task, digest), true),
                Owed::Count { blamed } => (self.store.record_start(&task, *blamed, stamp()).map(drop), true),
            };
            match result {
                Ok(()) | Err(StoreError::NoTrial { .. } | StoreError::NoSuchTask { .. }) => {
                    lock(&self.debts)
                        .owed
                        .retain(|(name, known)| *name != task || *known != owed);
                    tracing::info!(task, "what became of its trial is written to the disk now");
                    if reload && let Err(error) = self.load_checked(&changing, &task) {
                        tracing::error!(task, "{}", with_causes(&error));
                        // What serves in its place continues; the next start judges it.
                    }
                }
                Err(error) => tracing::debug!(task, "still not written: {error}"),
            }
        }
    }
}
