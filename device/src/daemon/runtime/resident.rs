//! Which adapter of each task is in memory: always the one that the store says serves.

use std::sync::Arc;

use clr_adapters::{Digest, Header, Provenance, PublicKey, Refusal, Trial, decode};
use clr_store::{Held, Serving, StoreError};

use super::{Runtime, lock, now, with_causes};
use crate::{
    ResidentAdapter,
    daemon::{
        DaemonError, canary,
        trial::{Observation, TrialRun, Verdict},
    },
};

/// What is known of the adapter that serves a task.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(crate) digest: Digest,
    pub(crate) file_bytes: u64,
    pub(crate) labels: u32,
    pub(crate) version: u64,
    pub(crate) revision: u32,
    pub(crate) provenance: Provenance,
    pub(crate) signer: Option<PublicKey>,
    /// Its trial, if it is on one.
    pub(crate) trial: Option<TrialRun>,
}

impl Runtime {
    /// Puts what the store says serves into memory; a task with nothing to serve leaves it. `changing` must be held.
    pub(super) fn load(&self, task: &str) -> Result<(), DaemonError> {
        match self.store.serving(task) {
            Ok(serving) => {
                let resident = self.engine.prepare(&serving.decoded.adapter)?;
                self.put(&serving, resident);
                Ok(())
            }
            // Its only adapter was taken back: that is no fault, there is just nothing to serve.
            Err(StoreError::NothingServes { tried, .. }) if tried.is_empty() => {
                self.unload(task);
                Ok(())
            }
            Err(error) => {
                self.unload(task);
                Err(error.into())
            }
        }
    }

    /// As [`Runtime::load`], at the start: a trial that the device did not survive often enough ends.
    pub(super) fn load_at_start(&self, task: &str) -> Result<(), DaemonError> {
        self.store.count_start(task, now())?;
        let Err(error) = self.load_checked(task) else {
            return Ok(());
        };
        // What served before a failed trial takes over; without a trial there is nothing else to serve.
        let Some(trial) = self.store.task(task)?.trial else {
            return Err(error);
        };
        tracing::error!(task, "{}", with_causes(&error));
        self.store
            .revert(task, &trial.held.digest, &with_causes(&error), now())?;
        self.load(task)
    }

    /// As [`Runtime::load`], and an adapter on trial answers its canaries first.
    pub(super) fn load_checked(&self, task: &str) -> Result<(), DaemonError> {
        let serving = self.store.serving(task)?;
        let adapter = &serving.decoded.adapter;
        let resident = self.engine.prepare(adapter)?;
        if serving.trial {
            canary::check(&self.engine, &resident, &adapter.header.canaries)?;
        }
        self.put(&serving, resident);
        Ok(())
    }

    fn put(&self, serving: &Serving, resident: ResidentAdapter) {
        let signer = serving.signer.map(|signature| signature.key);
        let header = &serving.decoded.adapter.header;
        self.put_resident(resident, header, serving.held, signer, serving.trial);
    }

    fn put_resident(
        &self,
        resident: ResidentAdapter,
        header: &Header,
        held: Held,
        signer: Option<PublicKey>,
        trial: bool,
    ) {
        let bounds = header.trial.unwrap_or_else(|| Trial::from(&self.config.load().trial));
        let detail = Detail {
            digest: held.digest,
            file_bytes: held.bytes,
            labels: header.labels.len() as u32,
            version: header.version,
            revision: header.revision,
            provenance: header.provenance,
            signer,
            trial: trial.then(|| TrialRun::new(bounds)),
        };
        // First what is known of it, then the adapter: a frame never finds a trial without its bounds.
        lock(&self.details).insert(header.task.clone(), detail);
        self.tasks.insert(resident);
    }

    /// Lets the confirmed adapter serve although the store says another does: it could not write the revert.
    fn fall_back(&self, task: &str) -> Result<(), DaemonError> {
        let Some(held) = self.store.task(task)?.confirmed else {
            self.unload(task);
            return Ok(());
        };
        let decoded =
            decode(&self.store.file(&held.digest)?).map_err(|error| DaemonError::Store(Refusal::from(error).into()))?;
        let signer = decoded.signature.map(|signature| signature.key);
        let resident = self.engine.prepare(&decoded.adapter)?;
        self.put_resident(resident, &decoded.adapter.header, held, signer, false);
        Ok(())
    }

    pub(super) fn unload(&self, task: &str) {
        lock(&self.details).remove(task);
        lock(&self.kept_frames).remove(task);
        // It may never have been there.
        let _ = self.tasks.remove(task);
    }

    /// Looks at what is known of a task's adapter.
    pub(crate) fn detail<T>(&self, task: &str, look: impl FnOnce(&Detail) -> T) -> Option<T> {
        lock(&self.details).get(task).map(look)
    }

    /// Whether this is the adapter that serves its task now: another may have taken its place since a frame took it.
    fn serves(&self, adapter: &Arc<ResidentAdapter>) -> bool {
        self.tasks
            .get(adapter.task())
            .is_ok_and(|current| Arc::ptr_eq(&current, adapter))
    }

    /// Counts a frame that `adapter` answered on trial.
    pub(crate) fn observe(&self, adapter: &Arc<ResidentAdapter>, frame: Observation) -> Verdict {
        if !self.serves(adapter) {
            return Verdict::Continue;
        }
        let mut details = lock(&self.details);
        let trial = details.get_mut(adapter.task()).and_then(|detail| detail.trial.as_mut());
        trial.map_or(Verdict::Continue, |trial| trial.observe(frame))
    }

    /// The file of an adapter that is on trial still; something else may have happened since a verdict on it.
    fn on_trial(&self, adapter: &Arc<ResidentAdapter>) -> Option<Digest> {
        let digest = self.detail(adapter.task(), |detail| detail.trial.as_ref().map(|_| detail.digest));
        digest.flatten().filter(|_| self.serves(adapter))
    }

    /// The adapter on trial has proved itself.
    pub(crate) fn confirm(&self, adapter: &Arc<ResidentAdapter>) -> Result<(), DaemonError> {
        let task = adapter.task();
        let _changing = lock(&self.changing);
        let Some(digest) = self.on_trial(adapter) else {
            return Ok(());
        };
        self.store.confirm(task, &digest)?;
        if let Some(detail) = lock(&self.details).get_mut(task) {
            detail.trial = None;
        }
        tracing::info!(task, version = adapter.version(), "confirmed");
        Ok(())
    }

    /// The adapter on trial has failed: what served before answers from the next frame on.
    pub(crate) fn revert(&self, adapter: &Arc<ResidentAdapter>, reason: &str) -> Result<(), DaemonError> {
        let task = adapter.task();
        let _changing = lock(&self.changing);
        let Some(digest) = self.on_trial(adapter) else {
            return Ok(());
        };
        tracing::warn!(task, version = adapter.version(), reason, "reverted");
        match self.store.revert(task, &digest, reason, now()) {
            Ok(_) => self.load(task),
            // A full disk is no reason to go on with what has failed. After a restart its trial begins anew.
            Err(error) => {
                self.fall_back(task)?;
                Err(error.into())
            }
        }
    }

    /// Adapters in memory and their bytes.
    pub(super) fn resident(&self) -> (u32, u64) {
        let names = self.tasks.names();
        let adapters: Vec<Arc<ResidentAdapter>> = names.iter().filter_map(|name| self.tasks.get(name).ok()).collect();
        let bytes: usize = adapters.iter().map(|adapter| adapter.bytes()).sum();
        (adapters.len() as u32, bytes as u64)
    }
}
