//! What arrives: adapters, differences, labelled pictures.

use clr_adapters::{Digest, delta};
use clr_transfer::{Begin, Committed, Failure, FailureCode, Kind};

use super::{Runtime, failure, lock, now, with_causes};

/// The label of frames that nobody labelled; no host can file a picture under it.
pub(crate) const UNLABELLED: &str = " ";

impl Runtime {
    pub(super) fn begin_transfer(&self, begin: &Begin) -> Result<u64, Failure> {
        let limits = &self.config.load().limits;
        let (what, got, cap) = match &begin.kind {
            Kind::Delta { length, .. } => ("bytes of an adapter", begin.length.max(*length), limits.adapter_bytes),
            Kind::Example { .. } => ("bytes of a picture", begin.length, limits.example_bytes),
            _ => ("bytes of an adapter", begin.length, limits.adapter_bytes),
        };
        if got > cap as u64 {
            let text = format!("{what}: {got}, at most {cap} allowed here");
            return Err(Failure::new(FailureCode::TOO_LARGE, text));
        }
        if let Kind::Delta { base, target, .. } = &begin.kind {
            // What serves here need not be sent.
            if self.held_already(target).is_some() {
                return Ok(begin.length);
            }
            if self.store.file(base).is_err() {
                let text = format!("the base {} of the difference is not here", base.short());
                return Err(Failure::new(FailureCode::NO_BASE, text));
            }
        }
        self.store.begin(&begin.digest, begin.length).map_err(failure::of_store)
    }

    pub(super) fn commit_transfer(&self, begin: &Begin) -> Result<Committed, Failure> {
        match &begin.kind {
            Kind::Adapter => {
                if let Some(committed) = self.held_already(&begin.digest) {
                    return Ok(committed);
                }
                let _changing = lock(&self.changing);
                let installed = self.store.commit(&begin.digest, now()).map_err(failure::of_store)?;
                self.take_into_service(&installed.task, &begin.digest)
            }
            Kind::Delta { base, target, length } => {
                if let Some(committed) = self.held_already(target) {
                    self.drop_upload(&begin.digest);
                    return Ok(committed);
                }
                let difference = self.store.upload(&begin.digest).map_err(failure::of_store)?;
                let base = self.store.file(base).map_err(failure::of_store)?;
                // A commit may come without its beginning, so the cap is taken again.
                let cap = self.config.load().limits.adapter_bytes.min(*length as usize);
                let made = delta::apply(&base, &difference, cap);
                // Whatever it is, it is of no further use in pieces.
                self.drop_upload(&begin.digest);
                let file = made.map_err(|error| Failure::new(FailureCode::DELTA, error))?;
                if Digest::of(&file) != *target {
                    let text = format!("the difference gives another file than {}", target.short());
                    return Err(Failure::new(FailureCode::DELTA, text));
                }
                let _changing = lock(&self.changing);
                let installed = self.store.install(&file, now()).map_err(failure::of_store)?;
                self.take_into_service(&installed.task, target)
            }
            Kind::Example { label, .. } if label.trim().is_empty() => {
                self.drop_upload(&begin.digest);
                Err(Failure::new(
                    FailureCode::EXAMPLES,
                    "a label of spaces alone says nothing",
                ))
            }
            Kind::Example { task, label } => {
                let bytes = self.store.upload(&begin.digest).map_err(failure::of_store)?;
                // A picture that cannot be read is of no use to tuning.
                let origin = format!("picture {}", begin.digest.short());
                if let Err(error) = clr_onnx::decode_image_bytes(&bytes, &origin) {
                    self.drop_upload(&begin.digest);
                    return Err(Failure::new(FailureCode::EXAMPLES, with_causes(&error)));
                }
                let added = self
                    .store
                    .add_example(task, label, &bytes, now())
                    .map_err(failure::of_store);
                self.drop_upload(&begin.digest);
                Ok(Committed::Example {
                    task: task.clone(),
                    label: label.clone(),
                    duplicate: matches!(added?, clr_store::Filed::Duplicate { .. }),
                })
            }
            _ => Err(Failure::new(
                FailureCode::UNSUPPORTED,
                "this device does not take such files",
            )),
        }
    }

    /// The answer for an adapter that is here: its commit came through, but the answer did not.
    fn held_already(&self, digest: &Digest) -> Option<Committed> {
        let states = self.store.tasks();
        let state = states.iter().find(|state| {
            let serving = state.trial.map(|trial| trial.held).or(state.confirmed);
            serving.is_some_and(|held| held.digest == *digest)
        })?;
        self.committed(&state.task, digest)
    }

    fn committed(&self, task: &str, digest: &Digest) -> Option<Committed> {
        self.detail(task, |detail| Committed::Adapter {
            task: task.to_owned(),
            version: detail.version,
            digest: *digest,
            trial_frames: detail.trial.as_ref().map_or(0, super::super::trial::TrialRun::left),
        })
    }

    /// Lets an adapter that was installed answer its canaries, then serve. One that fails is taken back; what served
    /// before was never out of memory. `changing` must be held.
    fn take_into_service(&self, task: &str, digest: &Digest) -> Result<Committed, Failure> {
        if let Err(error) = self.load_checked(task) {
            let reason = with_causes(&error);
            tracing::warn!(task, reason, "refused");
            if let Err(error) = self.store.revert(task, digest, &reason, now()) {
                tracing::error!("{error}");
            }
            return Err(failure::of_daemon(error));
        }
        tracing::info!(task, digest = digest.short(), "installed");
        self.committed(task, digest)
            .ok_or_else(|| Failure::new(FailureCode::INTERNAL, format_args!("task `{task}` is gone again")))
    }

    /// Stores what the device learned itself, signed with its key, and lets it serve on trial.
    #[cfg(feature = "tuning")]
    pub(crate) fn install_tuned(&self, task: &str, file: &[u8]) -> Result<(), Failure> {
        let _changing = lock(&self.changing);
        let installed = self.store.install_tuned(file).map_err(failure::of_store)?;
        self.take_into_service(task, &installed.held.digest).map(drop)
    }

    /// Keeps a frame of a task, unlabelled, until there are as many as the configuration says.
    pub(crate) fn keep_frame(&self, task: &str, bytes: &[u8]) {
        let most = self.config.load().tuning.frames;
        let kept =
            |examples: Vec<clr_store::Example>| examples.iter().filter(|example| example.label == UNLABELLED).count();
        let added = match self.store.examples(task).map(kept) {
            Ok(kept) if kept >= most => return,
            Ok(_) => self.store.add_example(task, UNLABELLED, bytes, now()),
            Err(error) => Err(error),
        };
        if let Err(error) = added {
            tracing::warn!(task, "cannot keep a frame: {error}");
        }
    }

    fn drop_upload(&self, digest: &Digest) {
        if let Err(error) = self.store.discard(digest) {
            tracing::warn!("{error}");
        }
    }
}
