//! A run of learning, from the store's pictures to what serves.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Instant};

use clr_store::{Serving, StoreError};
use clr_transfer::{Failure, FailureCode, TeachPhase, TunePhase};
use clr_tuning::{Parent, Plan, Progress, TuneError, TuneOptions, Watch};

use super::{
    Run,
    bounds::Bounds,
    stored::{StoredImages, StoredRunState},
};
use crate::runtime::{Runtime, UNLABELLED};

/// Seconds between two checkpoints, to spare flash.
const CHECKPOINT_SECONDS: u32 = 30;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LearnError {
    #[error(transparent)]
    Tune(#[from] TuneError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(Failure),
}

/// How a run ended.
pub(super) enum Outcome {
    Promoted(String),
    Kept(String),
}

struct RunObserver<'a> {
    runtime: &'a Runtime,
    started: Instant,
    /// Seconds that it may take from `started` on.
    seconds: u64,
}

impl Watch for RunObserver<'_> {
    fn plan(&mut self, plan: &Plan) {
        tracing::info!(%plan, "tuning");
        self.runtime.learning.update(|status| {
            status.phase = TunePhase::Running;
            status.plan = Some(plan.to_string());
            status.memory = Some(plan.peak);
        });
    }

    fn restarted(&mut self, reason: &str) {
        tracing::warn!(reason, "tuning starts anew");
    }

    fn resumed(&mut self, step: u32) {
        tracing::info!(step, "tuning goes on");
    }

    fn progress(&mut self, progress: Progress) {
        let seconds = self.started.elapsed().as_secs();
        self.runtime.learning.update(|status| {
            (status.step, status.steps, status.loss) = (progress.step, progress.steps, Some(progress.loss));
            status.seconds = seconds;
            if progress.step == progress.steps {
                status.phase = TunePhase::Evaluating;
            }
        });
    }

    fn should_stop(&mut self) -> bool {
        let late = self.started.elapsed().as_secs() >= self.seconds;
        late || self.runtime.stop.is_set() || self.runtime.learning.stop.load(Ordering::SeqCst)
    }
}

impl Runtime {
    /// Teaches what is new, and tunes as far as it was asked.
    pub(super) fn try_to_learn(&self, run: &Run, started: Instant) -> Result<Outcome, LearnError> {
        let task = run.request.task.as_str();
        let granted = Bounds::of(&self.config.load().tuning)
            .grant(&run.request)
            .map_err(LearnError::Refused)?;
        let taught = self.teach_new_classes(task)?;
        if run.request.steps == Some(0) {
            let nothing = || Outcome::Kept("no image shows a class that it does not know".to_owned());
            return Ok(taught.unwrap_or_else(nothing));
        }
        let parent = self.parent(&self.store.serving(task)?)?;
        let defaults = TuneOptions::default();
        let options = TuneOptions {
            steps: granted.steps,
            max_memory: Some(granted.memory),
            created: run.created,
            checkpoint_seconds: CHECKPOINT_SECONDS,
            ..defaults
        };
        let mut follow = RunObserver {
            runtime: self,
            started,
            // What it took before a restart counts.
            seconds: u64::from(granted.seconds).saturating_sub(run.spent),
        };
        let state = StoredRunState {
            runtime: self,
            run,
            started,
        };
        let pictures = StoredImages::with_classes(self, task, &parent.adapter.header.labels);
        let backbone = self.engine.backbone();
        let tuned = clr_tuning::tune(backbone, &parent, &pictures, &state, &options, &mut follow)?;
        let learned = &tuned.verdict.learned;
        let share = |right: u32| (learned.pictures > 0).then(|| right as f32 / learned.pictures as f32);
        let (before, after) = (share(learned.parent), share(learned.tuned));
        self.learning
            .update(|status| (status.accuracy_before, status.accuracy_after) = (before, after));
        match tuned.promoted() {
            Some(version) => {
                self.serve_tuned(version)?;
                Ok(Outcome::Promoted(tuned.verdict.reason))
            }
            None => Ok(Outcome::Kept(tuned.verdict.reason)),
        }
    }

    /// Teaches each class that images are filed of and that does not answer yet; what came of it in words, none where there is no
    /// such class.
    ///
    /// # Errors
    /// [`LearnError::Refused`] where none of them could be taught.
    fn teach_new_classes(&self, task: &str) -> Result<Option<Outcome>, LearnError> {
        let listed = self.store.examples(task)?;
        let known = match self.store.serving(task) {
            Ok(serving) => serving.decoded.adapter.header.labels.clone(),
            Err(StoreError::NoSuchTask { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let new: BTreeSet<&str> = (listed.iter().map(|example| example.label.as_str()))
            .filter(|&label| label != UNLABELLED && !known.iter().any(|known| known == label))
            .collect();
        let (mut told, mut refused, mut waiting) = (Vec::new(), Vec::new(), None);
        for label in &new {
            let status = self.teach_class(task, label);
            let message = status.message.unwrap_or_default();
            match status.phase {
                TeachPhase::Refused | TeachPhase::Failed => refused.push((message, status.hint)),
                TeachPhase::Taught => told.push(message),
                TeachPhase::Waiting => waiting = Some(message),
                _ => {}
            }
        }
        if told.is_empty()
            && waiting.is_none()
            && let Some((message, hint)) = refused.first()
        {
            let hint = hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            return Err(LearnError::Refused(Failure::new(
                FailureCode::TUNING,
                format_args!("{message}{hint}"),
            )));
        }
        if told.is_empty() {
            return Ok(waiting.map(Outcome::Kept));
        }
        told.extend(refused.into_iter().map(|(message, _)| message));
        Ok(Some(Outcome::Promoted(told.join("; "))))
    }

    /// What learning starts from. The classes of the publisher's original are protected; a task that was born here has none.
    pub(crate) fn parent(&self, serving: &Serving) -> Result<Parent, LearnError> {
        if !serving.held.tuned {
            let own = serving.decoded.adapter.clone();
            return Ok(Parent::new(serving.decoded.clone(), Some(&own)));
        }
        let task = &serving.decoded.adapter.header.task;
        let state = self.store.task(task)?;
        // A tuned adapter on trial stands on what is confirmed; a confirmed one has its original as restore point.
        let publisher = state.confirmed.filter(|held| !held.tuned).or(state.restore);
        let original = match publisher {
            Some(held) => {
                Some(clr_adapters::decode(&self.store.file(&held.digest)?).map_err(clr_adapters::Refusal::from))
            }
            None => None,
        };
        let original = original.transpose().map_err(StoreError::Refused)?;
        Ok(Parent::new(
            serving.decoded.clone(),
            original.as_ref().map(|decoded| &decoded.adapter),
        ))
    }
}
