//! Learning run: from the stored images to an adapter on trial.

use std::{collections::BTreeSet, time::Instant};

use clr_store::StoreError;
use clr_transfer::{Failure, FailureCode, TeachPhase, TunePhase};
use clr_tuning::{MemoryPlan, Observer, Progress, TuneError, TuneOptions};

use super::{
    Learner, Run,
    bounds::Bounds,
    stored::{StoredImages, StoredRunState},
};
use crate::runtime::Runtime;

/// Seconds between two writes of the run's state, to spare flash memory.
const STATE_SECONDS: u32 = 30;

/// Error that ended a learning run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LearnError {
    #[error(transparent)]
    Tune(#[from] TuneError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(Failure),
}

/// Outcome of a run, with a message.
pub(super) enum Outcome {
    Promoted(String),
    Kept(String),
}

struct RunObserver<'a> {
    runtime: &'a Runtime,
    started: Instant,
    /// Time limit in seconds, counted from `started`.
    seconds: u64,
}

impl Observer for RunObserver<'_> {
    fn plan(&mut self, plan: &MemoryPlan) {
        tracing::info!(%plan, "tuning");
        self.runtime.learning.update(|status| {
            status.phase = TunePhase::Running;
            status.plan = Some(plan.to_string());
            status.memory = Some(plan.peak);
        });
    }

    fn restarted(&mut self, reason: &str) {
        tracing::warn!(reason, "tuning starts from the beginning");
    }

    fn resumed(&mut self, step: u32) {
        tracing::info!(step, "tuning resumed");
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
        late || self.runtime.stop.is_set() || self.runtime.learning.is_stop_requested()
    }
}

impl Learner {
    /// Teaches new classes, and then tunes if the request has steps.
    pub(super) fn try_to_learn(&self, run: &Run, started: Instant) -> Result<Outcome, LearnError> {
        let task = run.request.task.as_str();
        let granted = Bounds::of(&self.runtime.config.load().tuning)
            .grant(&run.request)
            .map_err(LearnError::Refused)?;
        let taught = self.teach_new_classes(task)?;
        if run.request.steps == Some(0) {
            let nothing = || Outcome::Kept("no stored image has a new class".to_owned());
            return Ok(taught.unwrap_or_else(nothing));
        }
        let parent = self.runtime.parent(&self.runtime.store.serving(task)?)?;
        let options = TuneOptions::default()
            .with_steps(granted.steps)
            .with_max_memory(granted.memory)
            .with_created(run.created)
            .with_checkpoint_seconds(STATE_SECONDS);
        let mut follow = RunObserver {
            runtime: &self.runtime,
            started,
            // The time before a restart counts.
            seconds: u64::from(granted.seconds).saturating_sub(run.spent),
        };
        let state = StoredRunState {
            runtime: &self.runtime,
            run,
            started,
        };
        let images = StoredImages::with_classes(&self.runtime, task, &parent.adapter.header.labels);
        let backbone = self.runtime.engine.backbone();
        let tuned = clr_tuning::tune(backbone, &parent, &images, &state, &options, &mut follow)?;
        let learned = &tuned.verdict.learned;
        let share = |right: u32| (learned.images > 0).then(|| right as f32 / learned.images as f32);
        let (before, after) = (share(learned.parent), share(learned.tuned));
        self.runtime
            .learning
            .update(|status| (status.accuracy_before, status.accuracy_after) = (before, after));
        match tuned.promoted() {
            Some(version) => {
                self.serve_tuned(version)?;
                Ok(Outcome::Promoted(tuned.verdict.reason))
            }
            None => Ok(Outcome::Kept(tuned.verdict.reason)),
        }
    }

    /// Teaches each class of the stored images that the adapter does not have yet. Returns `None` if there is no such
    /// class.
    ///
    /// # Errors
    /// [`LearnError::Refused`] if none of the classes could be taught.
    fn teach_new_classes(&self, task: &str) -> Result<Option<Outcome>, LearnError> {
        let listed = self.runtime.store.examples(task)?;
        let known = match self.runtime.store.serving(task) {
            Ok(serving) => serving.decoded.adapter.header.labels.clone(),
            Err(StoreError::NoSuchTask { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let new: BTreeSet<&str> = (listed.iter().filter_map(|example| example.label.as_deref()))
            .filter(|&label| !known.iter().any(|known| known == label))
            .collect();
        let (mut taught, mut refused, mut waiting) = (Vec::new(), Vec::new(), None);
        for label in &new {
            let status = self.teach_class(task, label);
            let message = status.message.unwrap_or_default();
            match status.phase {
                TeachPhase::Refused | TeachPhase::Failed => refused.push((message, status.hint)),
                TeachPhase::Taught => taught.push(message),
                TeachPhase::Waiting => waiting = Some(message),
                _ => {}
            }
        }
        if taught.is_empty()
            && waiting.is_none()
            && let Some((message, hint)) = refused.first()
        {
            let hint = hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            return Err(LearnError::Refused(Failure::new(
                FailureCode::TUNING,
                format_args!("{message}{hint}"),
            )));
        }
        if taught.is_empty() {
            return Ok(waiting.map(Outcome::Kept));
        }
        taught.extend(refused.into_iter().map(|(message, _)| message));
        Ok(Some(Outcome::Promoted(taught.join("; "))))
    }
}
