//! Resident adapters. For each task, the adapter in memory is the one that serves according to the store.

use std::sync::{Arc, atomic::Ordering};

use clr_adapters::{Digest, Header, Provenance, PublicKey, Refusal, Trial, decode};
use clr_store::{OnTrial, ServingAdapter, StartOutcome, StoreError, StoredAdapter};
use clr_switching::UpdateGuard as GuardOf;

use super::{Runtime, lock, pending_changes::PendingChange, stamp, with_causes};
use crate::{
    DaemonError, canary, time,
    trial::{Observation, TrialRun, TrialVerdict},
};
use clr_engine::ResidentAdapter;

/// Information on the adapter that serves a task.
#[derive(Debug)]
pub(crate) struct AdapterInfo {
    pub(crate) digest: Digest,
    pub(crate) file_bytes: u64,
    pub(crate) labels: u32,
    pub(crate) version: u64,
    pub(crate) revision: u32,
    pub(crate) provenance: Provenance,
    pub(crate) signer: Option<PublicKey>,
    /// State of the adapter's trial; `None` if the adapter is not on trial.
    pub(crate) trial: Option<TrialRun>,
    /// Whether the store has recorded that this adapter on trial is in use.
    pub(crate) in_use: bool,
}

impl clr_switching::AdapterInfo for AdapterInfo {
    type Trial = Digest;

    fn on_trial(&self) -> Option<Digest> {
        self.trial.as_ref().map(|_| self.digest)
    }

    fn confirm(&mut self) {
        self.trial = None;
    }
}

/// Guard that permits changes to the serving adapters.
pub(super) type UpdateGuard<'a> = GuardOf<'a, ResidentAdapter, AdapterInfo>;

impl Runtime {
    /// Loads the adapter that serves a task according to the store. Unloads the task if there is none.
    pub(super) fn load(&self, changing: &UpdateGuard<'_>, task: &str) -> Result<(), DaemonError> {
        match self.store.serving(task) {
            Ok(serving) => {
                let prepared = self.engine.prepare(&serving.decoded.adapter);
                // The replaced adapter must stop serving even if the new one cannot be prepared.
                let resident = prepared.inspect_err(|_| self.unload(changing, task))?;
                self.put(changing, &serving, resident);
                Ok(())
            }
            // The task's only adapter was reverted. This is not a fault, but there is nothing to serve.
            Err(StoreError::NothingServes { tried, .. }) if tried.is_empty() => {
                self.unload(changing, task);
                Ok(())
            }
            Err(error) => {
                self.unload(changing, task);
                Err(error.into())
            }
        }
    }

    /// Loads a task at the start like [`Runtime::load`], and reverts a trial after too many unclean ends. The task
    /// serves even if no write succeeds. `blamed` states whether the adapter may have caused the unclean end of the
    /// last run.
    pub(super) fn load_at_start(
        &self,
        changing: &UpdateGuard<'_>,
        task: &str,
        blamed: bool,
    ) -> Result<(), DaemonError> {
        let in_use = self.store.task(task)?.trial.is_some_and(|trial| trial.in_use);
        match self.store.record_start(task, blamed, stamp()) {
            Ok(StartOutcome::Reverted { held }) => {
                tracing::error!(
                    task,
                    version = held.version,
                    "reverted: the device ended uncleanly with it too often"
                );
            }
            Ok(StartOutcome::Unclean { times }) => {
                tracing::warn!(
                    task,
                    times,
                    "the device ended uncleanly while the adapter on trial was in use"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(task, "cannot record the start: {}", with_causes(&error));
                if in_use && self.fall_back_until_written(changing, task, PendingChange::Count { blamed })? {
                    return Ok(());
                }
            }
        }
        let Err(error) = self.load_checked(changing, task) else {
            return Ok(());
        };
        // If a trial fails, the previous adapter serves. Without a trial, there is no other adapter to try.
        let Some(trial) = self.store.task(task)?.trial else {
            return Err(error);
        };
        let reason = with_causes(&error);
        tracing::error!(task, "{reason}");
        self.revert_trial(changing, task, trial.held.digest, &reason)
    }

    /// Reverts an adapter on trial. If the write fails, the revert takes effect in memory and is written later.
    pub(super) fn revert_trial(
        &self,
        changing: &UpdateGuard<'_>,
        task: &str,
        digest: Digest,
        reason: &str,
    ) -> Result<(), DaemonError> {
        match self.store.revert(task, &digest, reason, stamp()) {
            Ok(_) => self.load(changing, task),
            Err(error) => {
                tracing::error!(task, "cannot write the revert yet: {}", with_causes(&error));
                let (reason, at) = (reason.to_owned(), stamp());
                self.defer(task, PendingChange::Revert { digest, reason, at });
                self.fall_back(changing, task)
            }
        }
    }

    /// Serves the confirmed adapter in place of the one on trial until `change` is written. Returns false without
    /// effect if there is no confirmed adapter.
    fn fall_back_until_written(
        &self,
        changing: &UpdateGuard<'_>,
        task: &str,
        change: PendingChange,
    ) -> Result<bool, DaemonError> {
        if self.store.task(task)?.confirmed.is_none() {
            return Ok(false);
        }
        tracing::warn!(task, "the confirmed adapter is used until the start can be recorded");
        self.defer(task, change);
        self.fall_back(changing, task)?;
        Ok(true)
    }

    /// Records the use of an adapter on trial before its first frame, so that the next start can detect a crash during
    /// this use. Returns false if another adapter serves now.
    pub(crate) fn begin_use(&self, adapter: &Arc<ResidentAdapter>) -> bool {
        let unmarked =
            |detail: &mut AdapterInfo| detail.trial.as_ref().filter(|_| !detail.in_use).map(|_| detail.digest);
        let Some(digest) = self.serving.info_of(adapter, unmarked).flatten() else {
            return true;
        };
        let task = adapter.task();
        if let Err(error) = self.store.begin_use(task, &digest) {
            tracing::error!(
                task,
                "cannot record the use of the adapter on trial: {}",
                with_causes(&error)
            );
            let changing = self.serving.lock_updates();
            match self.fall_back_until_written(&changing, task, PendingChange::Use { digest }) {
                Ok(true) => return false,
                Ok(false) => {}
                Err(error) => tracing::error!(task, "{}", with_causes(&error)),
            }
        }
        self.serving.info_of(adapter, |detail| detail.in_use = true);
        true
    }

    /// Records a clean end: adapters on trial are not blamed for it, and their progress is kept.
    pub(crate) fn end_uses(&self) {
        for state in self.store.tasks().iter() {
            let progress = self.detail(&state.task, |detail| {
                let trial = detail.trial.as_ref().filter(|_| detail.in_use)?;
                Some((detail.digest, trial.progress()))
            });
            if let Some((digest, progress)) = progress.flatten()
                && let Err(error) = self.store.end_use(&state.task, &digest, progress)
            {
                tracing::warn!(task = state.task, "cannot record the clean end: {error}");
            }
        }
    }

    /// Loads a task like [`Runtime::load`], but first checks the canaries of an adapter on trial.
    pub(super) fn load_checked(&self, changing: &UpdateGuard<'_>, task: &str) -> Result<(), DaemonError> {
        let serving = self.store.serving(task)?;
        let adapter = &serving.decoded.adapter;
        let resident = self.engine.prepare(adapter)?;
        if serving.trial {
            canary::check(&self.engine, &resident, &adapter.header.canaries)?;
        }
        self.put(changing, &serving, resident);
        Ok(())
    }

    fn put(&self, changing: &UpdateGuard<'_>, serving: &ServingAdapter, resident: ResidentAdapter) {
        let signer = serving.signer.map(|signature| signature.key);
        let header = &serving.decoded.adapter.header;
        let state = self.store.task(&header.task).ok();
        let trial = state.and_then(|state| state.trial).filter(|_| serving.trial);
        self.put_resident(changing, resident, header, serving.held, signer, trial);
    }

    fn put_resident(
        &self,
        changing: &UpdateGuard<'_>,
        resident: ResidentAdapter,
        header: &Header,
        held: StoredAdapter,
        signer: Option<PublicKey>,
        trial: Option<OnTrial>,
    ) {
        if trial.is_none() && !held.tuned {
            time::confirmed(header);
        }
        let bounds = header.trial.unwrap_or_else(|| Trial::from(&self.config.load().trial));
        let detail = AdapterInfo {
            digest: held.digest,
            file_bytes: held.bytes,
            labels: header.labels.len() as u32,
            version: header.version,
            revision: header.revision,
            provenance: header.provenance,
            signer,
            trial: trial.map(|trial| TrialRun::resume(bounds, trial.progress)),
            in_use: trial.is_some_and(|trial| trial.in_use),
        };
        lock(&self.start_faults).remove(&header.task);
        changing.put(resident, detail);
    }

    /// Serves the confirmed adapter regardless of the store's trial, or the last good one if the confirmed one is
    /// damaged.
    fn fall_back(&self, changing: &UpdateGuard<'_>, task: &str) -> Result<(), DaemonError> {
        let state = self.store.task(task)?;
        for held in [state.confirmed, state.last_good, state.restore].into_iter().flatten() {
            match self.load_held(changing, held) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::error!(task, "cannot fall back to an adapter: {}", with_causes(&error)),
            }
        }
        self.unload(changing, task);
        Ok(())
    }

    fn load_held(&self, changing: &UpdateGuard<'_>, held: StoredAdapter) -> Result<(), DaemonError> {
        let decoded =
            decode(&self.store.file(&held.digest)?).map_err(|error| DaemonError::Store(Refusal::from(error).into()))?;
        let signer = decoded.signature.map(|signature| signature.key);
        let resident = self.engine.prepare(&decoded.adapter)?;
        self.put_resident(changing, resident, &decoded.adapter.header, held, signer, None);
        Ok(())
    }

    pub(super) fn unload(&self, changing: &UpdateGuard<'_>, task: &str) {
        changing.take_out(task);
        lock(&self.kept_frames).remove(task);
    }

    /// Reads the information on a task's adapter.
    pub(crate) fn detail<T>(&self, task: &str, read: impl FnOnce(&AdapterInfo) -> T) -> Option<T> {
        self.serving.info(task, read)
    }

    /// Returns whether this adapter is still on trial and has not been replaced.
    pub(crate) fn on_trial(&self, adapter: &Arc<ResidentAdapter>) -> bool {
        self.serving.info_of(adapter, |detail| detail.trial.is_some()) == Some(true)
    }

    /// Returns whether this adapter is on trial with a bound on its latency.
    pub(crate) fn has_latency_bound(&self, adapter: &Arc<ResidentAdapter>) -> bool {
        let bound = |detail: &mut AdapterInfo| detail.trial.as_ref().is_some_and(TrialRun::has_latency_bound);
        self.serving.info_of(adapter, bound) == Some(true)
    }

    /// Counts a frame that `adapter` classified. Returns `None` if the adapter is not on trial.
    pub(crate) fn observe(&self, adapter: &Arc<ResidentAdapter>, frame: Observation) -> Option<TrialVerdict> {
        let observe = |detail: &mut AdapterInfo| detail.trial.as_mut().map(|trial| trial.observe(frame));
        self.serving.info_of(adapter, observe).flatten()
    }

    /// Confirms an adapter that passed its trial.
    pub(crate) fn confirm(&self, adapter: &Arc<ResidentAdapter>) -> Result<(), DaemonError> {
        let task = adapter.task();
        let store = |digest| self.store.confirm(task, &digest).map(drop);
        if self.serving.confirm(adapter, store)? {
            tracing::info!(task, version = adapter.version(), "confirmed");
        }
        Ok(())
    }

    /// Reverts an adapter that failed its trial. The previous adapter serves from the next frame on.
    pub(crate) fn revert(&self, adapter: &Arc<ResidentAdapter>, reason: &str) -> Result<(), DaemonError> {
        let task = adapter.task();
        let replace = |changing: &UpdateGuard<'_>, digest| {
            tracing::warn!(task, version = adapter.version(), reason, "reverted");
            self.counters.reverts.fetch_add(1, Ordering::Relaxed);
            // The revert takes effect even if the write fails, for example on a full disk.
            self.revert_trial(changing, task, digest, reason)
        };
        self.serving.revert(adapter, replace).map(drop)
    }

    /// Returns the number of resident adapters and their bytes.
    pub(crate) fn resident(&self) -> (u32, u64) {
        let adapters = self.serving.tasks().all();
        let bytes: usize = adapters.iter().map(|adapter| adapter.bytes()).sum();
        (adapters.len() as u32, bytes as u64)
    }
}
