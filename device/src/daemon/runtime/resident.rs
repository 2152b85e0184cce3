//! Which adapter of each task is in memory: always the one that the store says serves.

use std::sync::{Arc, atomic::Ordering};

use clr_adapters::{Digest, Header, Provenance, PublicKey, Refusal, Trial, decode};
use clr_store::{Held, Serving, StoreError};
use clr_switching::Changing as ChangingOf;

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

impl clr_switching::Detail for Detail {
    type Trial = Digest;

    fn on_trial(&self) -> Option<Digest> {
        self.trial.as_ref().map(|_| self.digest)
    }

    fn confirm(&mut self) {
        self.trial = None;
    }
}

/// The right to change what serves.
pub(super) type Changing<'a> = ChangingOf<'a, ResidentAdapter, Detail>;

impl Runtime {
    /// Puts what the store says serves into memory; a task with nothing to serve leaves it.
    pub(super) fn load(&self, changing: &Changing<'_>, task: &str) -> Result<(), DaemonError> {
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

    /// As [`Runtime::load`], at the start: a trial that the device did not survive often enough ends.
    pub(super) fn load_at_start(&self, changing: &Changing<'_>, task: &str) -> Result<(), DaemonError> {
        self.store.count_start(task, now())?;
        let Err(error) = self.load_checked(changing, task) else {
            return Ok(());
        };
        // What served before a failed trial takes over; without a trial there is nothing else to serve.
        let Some(trial) = self.store.task(task)?.trial else {
            return Err(error);
        };
        tracing::error!(task, "{}", with_causes(&error));
        self.store
            .revert(task, &trial.held.digest, &with_causes(&error), now())?;
        self.load(changing, task)
    }

    /// As [`Runtime::load`], and an adapter on trial answers its canaries first.
    pub(super) fn load_checked(&self, changing: &Changing<'_>, task: &str) -> Result<(), DaemonError> {
        let serving = self.store.serving(task)?;
        let adapter = &serving.decoded.adapter;
        let resident = self.engine.prepare(adapter)?;
        if serving.trial {
            canary::check(&self.engine, &resident, &adapter.header.canaries)?;
        }
        self.put(changing, &serving, resident);
        Ok(())
    }

    fn put(&self, changing: &Changing<'_>, serving: &Serving, resident: ResidentAdapter) {
        let signer = serving.signer.map(|signature| signature.key);
        let header = &serving.decoded.adapter.header;
        self.put_resident(changing, resident, header, serving.held, signer, serving.trial);
    }

    fn put_resident(
        &self,
        changing: &Changing<'_>,
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
        changing.put(resident, detail);
    }

    /// Lets the confirmed adapter serve although the store says another does: it could not write the revert.
    fn fall_back(&self, changing: &Changing<'_>, task: &str) -> Result<(), DaemonError> {
        let Some(held) = self.store.task(task)?.confirmed else {
            self.unload(changing, task);
            return Ok(());
        };
        let decoded =
            decode(&self.store.file(&held.digest)?).map_err(|error| DaemonError::Store(Refusal::from(error).into()))?;
        let signer = decoded.signature.map(|signature| signature.key);
        let resident = self.engine.prepare(&decoded.adapter)?;
        self.put_resident(changing, resident, &decoded.adapter.header, held, signer, false);
        Ok(())
    }

    pub(super) fn unload(&self, changing: &Changing<'_>, task: &str) {
        changing.take_out(task);
        lock(&self.kept_frames).remove(task);
    }

    /// Looks at what is known of a task's adapter.
    pub(crate) fn detail<T>(&self, task: &str, look: impl FnOnce(&Detail) -> T) -> Option<T> {
        self.serving.detail(task, look)
    }

    /// Whether this adapter is on trial; not if another has taken its place since a frame took it.
    pub(crate) fn on_trial(&self, adapter: &Arc<ResidentAdapter>) -> bool {
        self.serving.of(adapter, |detail| detail.trial.is_some()) == Some(true)
    }

    /// Counts a frame that `adapter` answered; nothing if it is not on trial.
    pub(crate) fn observe(&self, adapter: &Arc<ResidentAdapter>, frame: Observation) -> Option<Verdict> {
        let observe = |detail: &mut Detail| detail.trial.as_mut().map(|trial| trial.observe(frame));
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
        let replace = |changing: &Changing<'_>, digest| {
            tracing::warn!(task, version = adapter.version(), reason, "reverted");
            self.counters.reverts.fetch_add(1, Ordering::Relaxed);
            match self.store.revert(task, &digest, reason, now()) {
                Ok(_) => self.load(changing, task),
                // A full disk is no reason to go on with what has failed. After a restart its trial begins anew.
                Err(error) => {
                    self.fall_back(changing, task)?;
                    Err(error.into())
                }
            }
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
