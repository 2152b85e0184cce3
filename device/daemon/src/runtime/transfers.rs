//! Transfers from hosts: adapters, deltas, labelled images.

use clr_adapters::{Digest, delta};
use clr_store::{AddOutcome, Installed, StoreError, StoredAdapter};
use clr_transfer::{Begin, Committed, Failure, FailureCode, Kind};

use super::{Runtime, failure, lock, now, resident::UpdateGuard, stamp, time, with_causes};
use crate::trial::TrialRun;
use clr_engine::trim_heap;

impl Runtime {
    pub(super) fn begin_transfer(&self, begin: &Begin) -> Result<u64, Failure> {
        let limits = &self.config.load().limits;
        let (what, cap) = match &begin.kind {
            Kind::Example { .. } => ("bytes of an image", limits.example_bytes),
            _ => ("bytes of an adapter", limits.adapter_bytes),
        };
        let got = begin.length.max(begin.kind.made_bytes().unwrap_or(0));
        if got > cap as u64 {
            let text = format!("{what}: {got}, at most {cap} allowed here");
            return Err(Failure::new(FailureCode::TOO_LARGE, text));
        }
        if let Kind::Example { task, label } = &begin.kind {
            self.check_label(task, label)?;
        }
        if let Kind::Delta { base, target, .. } | Kind::ReleaseDelta { base, target, .. } = &begin.kind {
            // An adapter that is in use need not be sent again.
            if self.store.in_force(target).is_some() {
                return Ok(begin.length);
            }
            if self.store.file(base).is_err() {
                let text = format!("the base {} of the delta is not stored here", base.short());
                return Err(Failure::new(FailureCode::NO_BASE, text));
            }
        }
        let (digest, length) = (&begin.digest, begin.length);
        let held = match &begin.kind {
            Kind::Release(release) => self.store.begin_announced(digest, length, release, digest, now()),
            Kind::ReleaseDelta { target, release, .. } => {
                self.store.begin_announced(digest, length, release, target, now())
            }
            _ => self.store.begin(digest, length),
        };
        held.map_err(failure::of_store)
    }

    pub(super) fn commit_transfer(&self, begin: &Begin) -> Result<Committed, Failure> {
        match &begin.kind {
            Kind::Adapter | Kind::Release(_) => {
                let changing = self.serving.lock_updates();
                let installed = self.store.commit(&begin.digest, now());
                let installed = installed
                    .inspect_err(|error| time::note_expiry(&self.store, error))
                    .map_err(failure::of_store)?;
                self.take_into_service(&changing, &installed)
            }
            Kind::Delta { base, target, .. } | Kind::ReleaseDelta { base, target, .. } => {
                if let Some((task, held)) = self.store.in_force(target) {
                    self.drop_upload(&begin.digest);
                    return Ok(self.committed(&task, held));
                }
                let delta = self.store.upload(&begin.digest).map_err(failure::of_store)?;
                let base = self.store.file(base).map_err(failure::of_store)?;
                // A commit may arrive without `begin`, so the cap is checked again.
                let most = self.config.load().limits.adapter_bytes as u64;
                let cap = most.min(begin.kind.made_bytes().unwrap_or(0)) as usize;
                let made = delta::apply(&base, &delta, cap);
                // The upload is not needed any more, whatever the result.
                self.drop_upload(&begin.digest);
                let file = made.map_err(|error| Failure::new(FailureCode::DELTA, error))?;
                if Digest::of(&file) != *target {
                    let text = format!("the delta does not give the file {}", target.short());
                    return Err(Failure::new(FailureCode::DELTA, text));
                }
                let changing = self.serving.lock_updates();
                let installed = self.store.install(&file, now());
                let installed = installed
                    .inspect_err(|error| time::note_expiry(&self.store, error))
                    .map_err(failure::of_store)?;
                self.take_into_service(&changing, &installed)
            }
            Kind::Example { task, label } => {
                // A commit may come without `begin`.
                if let Err(failure) = self.check_label(task, label) {
                    self.drop_upload(&begin.digest);
                    return Err(failure);
                }
                let bytes = self.store.upload(&begin.digest).map_err(failure::of_store)?;
                // An image that cannot be decoded would be useless for tuning.
                let origin = format!("image {}", begin.digest.short());
                let serving = self.serving.tasks().get(task).ok();
                let input = serving.as_ref().map(|adapter| adapter.preprocessing());
                if let Err(error) = self.decode(&bytes, &origin, None, input) {
                    self.drop_upload(&begin.digest);
                    return Err(Failure::new(FailureCode::EXAMPLES, with_causes(&error)));
                }
                let added = self
                    .store
                    .add_example(task, Some(label), &bytes, stamp())
                    .map_err(failure::of_store);
                self.drop_upload(&begin.digest);
                let added = added?;
                #[cfg(feature = "tuning")]
                if let AddOutcome::Relabelled { id, from } = &added {
                    self.learning.relabelled(task, *id, from.as_deref());
                }
                Ok(Committed::Example {
                    task: task.clone(),
                    label: label.clone(),
                    duplicate: matches!(added, AddOutcome::Duplicate { .. }),
                })
            }
            _ => Err(Failure::new(
                FailureCode::UNSUPPORTED,
                "this device does not accept such files",
            )),
        }
    }

    fn committed(&self, task: &str, held: StoredAdapter) -> Committed {
        let frames = self.detail(task, |detail| {
            let trial = detail.trial.as_ref().filter(|_| detail.digest == held.digest);
            trial.map_or(0, TrialRun::left)
        });
        Committed::Adapter {
            task: task.to_owned(),
            version: held.version,
            digest: held.digest,
            trial_frames: frames.unwrap_or(0),
        }
    }

    /// Checks the canaries of an installed adapter, then puts it into service. If a canary fails, the adapter is
    /// reverted and the confirmed one serves.
    fn take_into_service(&self, changing: &UpdateGuard<'_>, installed: &Installed) -> Result<Committed, Failure> {
        let (task, held) = (&installed.task, installed.held);
        let in_memory = self.detail(task, |detail| detail.digest == held.digest);
        if installed.already && in_memory == Some(true) {
            return Ok(self.committed(task, held));
        }
        if self.has_failed(task, &held.digest) {
            let text = "it failed its trial, and the revert cannot be written yet; the previous adapter is used";
            return Err(Failure::new(FailureCode::STORAGE, text));
        }
        if let Err(error) = self.load_checked(changing, task) {
            let reason = with_causes(&error);
            tracing::warn!(task, reason, "refused");
            // This adapter replaced an earlier one on trial.
            if let Err(error) = self.revert_trial(changing, task, held.digest, &reason) {
                tracing::error!("{}", with_causes(&error));
            }
            return Err(failure::of_daemon(error));
        }
        tracing::info!(task, digest = held.digest.short(), "installed");
        trim_heap();
        Ok(self.committed(task, held))
    }

    /// Signs an adapter learned on this device with the device's key, stores it, and puts it into service on trial.
    #[cfg(feature = "tuning")]
    pub(crate) fn install_tuned(&self, file: &[u8]) -> Result<(), Failure> {
        let changing = self.serving.lock_updates();
        let installed = self.store.install_tuned(file).map_err(failure::of_store)?;
        self.take_into_service(&changing, &installed).map(drop)
    }

    /// Returns whether [`Runtime::keep_frame`] would store a frame of this task. Avoids a needless copy of the frame.
    pub(crate) fn wants_frame(&self, task: &str) -> bool {
        let most = self.config.load().tuning.max_frames;
        most > 0 && lock(&self.kept_frames).get(task).is_none_or(|&kept| kept < most)
    }

    /// Stores a frame of a task without a label, up to `tuning.max_frames`.
    pub(crate) fn keep_frame(&self, task: &str, bytes: &[u8]) {
        if let Err(error) = self.try_to_keep(task, bytes) {
            tracing::warn!(task, "cannot store a frame: {error}");
        }
    }

    fn try_to_keep(&self, task: &str, bytes: &[u8]) -> Result<(), StoreError> {
        // The stored frames are counted once per task.
        let known = lock(&self.kept_frames).get(task).copied();
        let kept = if let Some(kept) = known {
            kept
        } else {
            let examples = self.store.examples(task)?;
            examples.iter().filter(|example| example.label.is_none()).count()
        };
        let added = kept < self.config.load().tuning.max_frames
            && matches!(
                self.store.add_example(task, None, bytes, stamp())?,
                AddOutcome::Added { .. }
            );
        lock(&self.kept_frames).insert(task.to_owned(), kept + usize::from(added));
        Ok(())
    }

    fn drop_upload(&self, digest: &Digest) {
        if let Err(error) = self.store.discard(digest) {
            tracing::warn!("{error}");
        }
    }
}
