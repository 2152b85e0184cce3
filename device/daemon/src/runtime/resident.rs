//! Which adapter of each task is in memory: always the one that the store says serves.

use std::sync::{Arc, atomic::Ordering};

use clr_adapters::{Digest, Header, Provenance, PublicKey, Refusal, Trial, decode};
use clr_store::{OnTrial, ServingAdapter, StartOutcome, StoreError, StoredAdapter};
use clr_switching::UpdateGuard as GuardOf;

use super::{Runtime, lock, owed::Owed, stamp, with_causes};
use crate::{
    DaemonError, canary, time,
    trial::{Observation, TrialRun, Verdict},
};
use clr_engine::ResidentAdapter;

/// What is known of the adapter that serves a task.
#[derive(Debug)]
pub(crate) struct AdapterInfo {
    pub(crate) digest: Digest,
    pub(crate) file_bytes: u64,
    pub(crate) labels: u32,
    pub(crate) version: u64,
    pub(crate) revision: u32,
    pub(crate) provenance: Provenance,
    pub(crate) signer: Option<PublicKey>,
    /// Its trial, if it is on one.
    pub(crate) trial: Option<TrialRun>,
    /// Whether the store knows that it answers frames on trial.
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

/// The right to change what serves.
pub(super) type UpdateGuard<'a> = GuardOf<'a, ResidentAdapter, AdapterInfo>;

impl Runtime {
    /// Puts what the store says serves into memory; a task with nothing to serve leaves it.
    pub(super) fn load(&self, changing: &UpdateGuard<'_>, task: &str) -> Result<(), DaemonError> {
        match self.store.serving(task) {
            Ok(serving) => {
                let prepared = self.engine.prepare(&serving.decoded.adapter);
                // What it takes the place of does not serve any more, whatever comes instead.
                let resident = prepared.inspect_err(|_| self.unload(changing, task))?;
                self.put(changing, &serving, resident);
                Ok(())
            }
            // Its only adapter was taken back: that is no fault, there is just nothing to serve.
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

    /// As [`Runtime::load`], at the start: a trial that brought the device down often enough ends. Nothing needs to be written for the task
    /// to serve. `blamed`: whether an unclean end before may have been the adapter's doing.
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
                tracing::error!(task, "the start cannot be noted: {}", with_causes(&error));
                if in_use && self.stands_back(changing, task, Owed::Count { blamed })? {
                    return Ok(());
                }
            }
        }
        let Err(error) = self.load_checked(changing, task) else {
            return Ok(());
        };
        // What served before a failed trial takes over; without a trial there is nothing else to serve.
        let Some(trial) = self.store.task(task)?.trial else {
            return Err(error);
        };
        let reason = with_causes(&error);
        tracing::error!(task, "{reason}");
        self.take_back(changing, task, trial.held.digest, &reason)
    }

    /// Reverts an adapter on trial. Where that cannot be written it is in force in memory, and written later.
    pub(super) fn take_back(
        &self,
        changing: &UpdateGuard<'_>,
        task: &str,
        digest: Digest,
        reason: &str,
    ) -> Result<(), DaemonError> {
        match self.store.revert(task, &digest, reason, stamp()) {
            Ok(_) => self.load(changing, task),
            Err(error) => {
                tracing::error!(task, "the revert cannot be written yet: {}", with_causes(&error));
                let (reason, at) = (reason.to_owned(), stamp());
                self.owe(task, Owed::Revert { digest, reason, at });
                self.fall_back(changing, task)
            }
        }
    }

    /// Lets the confirmed adapter serve in place of one on trial until `owed` is written. False, and nothing is done, if there is none.
    fn stands_back(&self, changing: &UpdateGuard<'_>, task: &str, owed: Owed) -> Result<bool, DaemonError> {
        if self.store.task(task)?.confirmed.is_none() {
            return Ok(false);
        }
        tracing::warn!(task, "the confirmed adapter serves until that can be noted");
        self.owe(task, owed);
        self.fall_back(changing, task)?;
        Ok(true)
    }

    /// Called before a frame is answered. An adapter on trial is marked as in use before its first one: should it bring the device down, the
    /// next start knows. False if something else serves now.
    pub(crate) fn begin_use(&self, adapter: &Arc<ResidentAdapter>) -> bool {
        let unmarked =
            |detail: &mut AdapterInfo| detail.trial.as_ref().filter(|_| !detail.in_use).map(|_| detail.digest);
        let Some(digest) = self.serving.of(adapter, unmarked).flatten() else {
            return true;
        };
        let task = adapter.task();
        if let Err(error) = self.store.begin_use(task, &digest) {
            tracing::error!(
                task,
                "the use of the adapter on trial cannot be noted: {}",
                with_causes(&error)
            );
            let changing = self.serving.lock_updates();
            match self.stands_back(&changing, task, Owed::Use { digest }) {
                Ok(true) => return false,
                Ok(false) => {}
                Err(error) => tracing::error!(task, "{}", with_causes(&error)),
            }
        }
        self.serving.of(adapter, |detail| detail.in_use = true);
        true
    }

    /// The end is a clean one: nothing counts against adapters on trial, and how far they have come is kept.
    pub(crate) fn end_uses(&self) {
        for state in self.store.tasks().iter() {
            let progress = self.detail(&state.task, |detail| {
                let trial = detail.trial.as_ref().filter(|_| detail.in_use)?;
                Some((detail.digest, trial.progress()))
            });
            if let Some((digest, progress)) = progress.flatten()
                && let Err(error) = self.store.end_use(&state.task, &digest, progress)
            {
                tracing::warn!(task = state.task, "the clean end cannot be noted: {error}");
            }
        }
    }

    /// As [`Runtime::load`], and an adapter on trial answers its canaries first.
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
        changing.put(resident, detail);
    }

    /// Lets the confirmed adapter serve although the store says another does, or the last good one if that is damaged.
    fn fall_back(&self, changing: &UpdateGuard<'_>, task: &str) -> Result<(), DaemonError> {
        let state = self.store.task(task)?;
        for held in [state.confirmed, state.last_good, state.restore].into_iter().flatten() {
            match self.load_held(changing, held) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::error!(task, "an adapter is passed over: {}", with_causes(&error)),
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

    /// Looks at what is known of a task's adapter.
    pub(crate) fn detail<T>(&self, task: &str, look: impl FnOnce(&AdapterInfo) -> T) -> Option<T> {
        self.serving.detail(task, look)
    }

    /// Whether this adapter is on trial; not if another has taken its place since a frame took it.
    pub(crate) fn on_trial(&self, adapter: &Arc<ResidentAdapter>) -> bool {
        self.serving.of(adapter, |detail| detail.trial.is_some()) == Some(true)
    }

    /// Counts a frame that `adapter` answered; nothing if it is not on trial.
    pub(crate) fn observe(&self, adapter: &Arc<ResidentAdapter>, frame: Observation) -> Option<Verdict> {
        let observe = |detail: &mut AdapterInfo| detail.trial.as_mut().map(|trial| trial.observe(frame));
        self.serving.of(adapter, observe).flatten()
    }

    /// The adapter on trial has proved itself.
    pub(crate) fn confirm(&self, adapter: &Arc<ResidentAdapter>) -> Result<(), DaemonError> {
        let task = adapter.task();
        let store = |digest| self.store.confirm(task, &digest).map(drop);
        if self.serving.confirm(adapter, store)? {
            tracing::info!(task, version = adapter.version(), "confirmed");
        }
        Ok(())
    }

    /// The adapter on trial has failed: what served before answers from the next frame on.
    pub(crate) fn revert(&self, adapter: &Arc<ResidentAdapter>, reason: &str) -> Result<(), DaemonError> {
        let task = adapter.task();
        let replace = |changing: &UpdateGuard<'_>, digest| {
            tracing::warn!(task, version = adapter.version(), reason, "reverted");
            self.counters.reverts.fetch_add(1, Ordering::Relaxed);
            // A full disk is no reason to go on with what has failed.
            self.take_back(changing, task, digest, reason)
        };
        self.serving.revert(adapter, replace).map(drop)
    }

    /// Adapters in memory and their bytes.
    pub(super) fn resident(&self) -> (u32, u64) {
        let adapters = self.serving.tasks().all();
        let bytes: usize = adapters.iter().map(|adapter| adapter.bytes()).sum();
        (adapters.len() as u32, bytes as u64)
    }
}
