//! Changes of trials that are in effect in memory, but could not be written to the store yet. They are retried until
//! the write succeeds.

use std::time::{Duration, Instant};

use clr_adapters::Digest;
use clr_store::StoreError;

use super::{Runtime, lock, stamp, with_causes};

/// Time between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A change of a task's trial whose write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PendingChange {
    /// The adapter failed its trial and no longer serves.
    Revert {
        digest: Digest,
        reason: String,
        at: Option<u64>,
    },
    /// The unclean end of the last run must be counted. Until this is written the adapter does not serve, because it
    /// might crash the device at every start.
    Count { blamed: bool },
    /// The first use of the adapter must be recorded. Until this is written the adapter does not serve, for the same
    /// reason.
    Use { digest: Digest },
}

/// Unwritten changes by task, the latest last.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    changes: Vec<(String, PendingChange)>,
    tried: Option<Instant>,
}

impl Runtime {
    pub(super) fn defer(&self, task: &str, change: PendingChange) {
        let pending_changes = &mut lock(&self.pending_changes).changes;
        pending_changes
            .retain(|(name, known)| name != task || std::mem::discriminant(known) != std::mem::discriminant(&change));
        pending_changes.push((task.to_owned(), change));
    }

    /// Returns whether this adapter failed its trial and the revert has not been written yet.
    pub(super) fn has_failed(&self, task: &str, digest: &Digest) -> bool {
        let pending_changes = lock(&self.pending_changes);
        pending_changes.changes.iter().any(|(name, change)| {
            name == task && matches!(change, PendingChange::Revert { digest: failed, .. } if failed == digest)
        })
    }

    /// Returns the changes as text, for the health checks.
    pub(super) fn pending_changes(&self) -> Vec<String> {
        let pending_changes = lock(&self.pending_changes);
        let text = |(task, change): &(String, PendingChange)| match change {
            PendingChange::Revert { reason, .. } => {
                format!("task `{task}`: its adapter on trial failed ({reason}), but the revert cannot be written")
            }
            PendingChange::Count { .. } | PendingChange::Use { .. } => {
                format!("task `{task}`: its adapter on trial is not used until its use can be recorded")
            }
        };
        pending_changes.changes.iter().map(text).collect()
    }

    /// Tries to write the changes, at most every [`RETRY_INTERVAL`] unless `at_once` is set.
    pub(crate) fn flush_changes(&self, at_once: bool) {
        let now = Instant::now();
        let changes = {
            let mut pending_changes = lock(&self.pending_changes);
            let too_early = pending_changes
                .tried
                .is_some_and(|tried| now.duration_since(tried) < RETRY_INTERVAL);
            if pending_changes.changes.is_empty() || too_early && !at_once {
                return;
            }
            pending_changes.tried = Some(now);
            pending_changes.changes.clone()
        };
        for (task, change) in changes {
            let changing = self.serving.lock_updates();
            let (result, reload) = match &change {
                PendingChange::Revert { digest, reason, at } => {
                    (self.store.revert(&task, digest, reason, *at).map(drop), false)
                }
                PendingChange::Use { digest } => (self.store.begin_use(&task, digest), true),
                PendingChange::Count { blamed } => (self.store.record_start(&task, *blamed, stamp()).map(drop), true),
            };
            match result {
                Ok(()) | Err(StoreError::NoTrial { .. } | StoreError::NoSuchTask { .. }) => {
                    lock(&self.pending_changes)
                        .changes
                        .retain(|(name, known)| *name != task || *known != change);
                    tracing::info!(task, "pending change of the trial written");
                    if reload && let Err(error) = self.load_checked(&changing, &task) {
                        tracing::error!(task, "{}", with_causes(&error));
                        // The confirmed adapter keeps serving, and the next start tries again.
                    }
                }
                Err(error) => tracing::debug!(task, "cannot write the change of the trial yet: {error}"),
            }
        }
    }
}
