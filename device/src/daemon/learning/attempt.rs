//! A run of learning, from the store's pictures to what serves.

use std::{sync::atomic::Ordering, time::Instant};

use clr_adapters::{Header, Provenance, Recipe};
use clr_store::{Serving, StoreError};
use clr_transfer::{Failure, TunePhase};
use clr_tuning::{Parent, Plan, Progress, TuneError, TuneOptions, Watch};

use super::{
    Run,
    stored::{Kept, Pictures},
};
use crate::daemon::runtime::{Runtime, UNLABELLED, with_causes};

/// Memory that tuning may bring the whole process to, where the request names none.
const MEMORY: u64 = 300_000_000;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub(super) enum LearnError {
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

struct Follow<'a> {
    runtime: &'a Runtime,
    started: Instant,
    seconds: Option<u32>,
}

impl Watch for Follow<'_> {
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
        let late = self
            .seconds
            .is_some_and(|most| self.started.elapsed().as_secs() >= u64::from(most));
        late || self.runtime.stop.is_set() || self.runtime.learning.stop.load(Ordering::SeqCst)
    }
}

impl Runtime {
    /// Teaches what is new, and tunes as far as it was asked.
    pub(super) fn try_to_learn(&self, run: &Run, started: Instant) -> Result<Outcome, LearnError> {
        let task = run.request.task.as_str();
        let backbone = self.engine.backbone();
        let pictures = Pictures { runtime: self, task };
        let serving = match self.store.serving(task) {
            Ok(serving) => serving,
            Err(StoreError::NoSuchTask { .. }) => {
                let header = Header::new(
                    task,
                    Vec::new(),
                    backbone.digest(),
                    backbone.preprocessing().clone(),
                    Provenance::DeviceTuned,
                );
                let born = match clr_tuning::birth(backbone, header, Recipe::Linear, &pictures) {
                    // No fault of whoever files the first class: the second one brings the task to life.
                    Err(error @ TuneError::TooFewClasses { .. }) if run.request.steps == Some(0) => {
                        return Ok(Outcome::Kept(with_causes(&error)));
                    }
                    born => born?,
                };
                let classes = born.adapter.header.labels.len();
                self.serve_tuned(&born.file)?;
                return Ok(Outcome::Promoted(format!("a task of {classes} classes was born")));
            }
            Err(error) => return Err(error.into()),
        };
        let mut parent = self.parent(&serving)?;
        let listed = self.store.examples(task)?;
        let mut new: Vec<&str> = listed.iter().map(|example| example.label.as_str()).collect();
        new.retain(|&label| label != UNLABELLED);
        new.retain(|label| !parent.adapter.header.labels.iter().any(|known| known == label));
        new.sort_unstable();
        new.dedup();
        let mut taught = None;
        if !new.is_empty() {
            let version = clr_tuning::teach(backbone, &parent, &pictures)?;
            self.serve_tuned(&version.file)?;
            tracing::info!(task, classes = ?new, "answers by prototypes");
            taught = Some(format!("answers by a prototype: {}", new.join(", ")));
            parent = self.parent(&self.store.serving(task)?)?;
        }
        if run.request.steps == Some(0) {
            let nothing = || Outcome::Kept("no picture shows a class that it does not know".to_owned());
            return Ok(taught.map_or_else(nothing, Outcome::Promoted));
        }
        let defaults = TuneOptions::default();
        let options = TuneOptions {
            steps: run.request.steps.unwrap_or(defaults.steps),
            max_memory: Some(run.request.memory.unwrap_or(MEMORY)),
            created: run.created,
            ..defaults
        };
        let mut follow = Follow {
            runtime: self,
            started,
            seconds: run.request.seconds,
        };
        let kept = Kept {
            runtime: self,
            run,
            written: std::sync::Mutex::default(),
        };
        let tuned = clr_tuning::tune(backbone, &parent, &pictures, &kept, &options, &mut follow)?;
        let learned = &tuned.verdict.learned;
        let share = |right: u32| (learned.pictures > 0).then(|| right as f32 / learned.pictures as f32);
        let (before, after) = (share(learned.parent), share(learned.tuned));
        self.learning
            .update(|status| (status.accuracy_before, status.accuracy_after) = (before, after));
        match tuned.promoted() {
            Some(version) => {
                self.serve_tuned(&version.file)?;
                Ok(Outcome::Promoted(tuned.verdict.reason))
            }
            None => Ok(Outcome::Kept(tuned.verdict.reason)),
        }
    }

    /// What learning starts from. The classes of the publisher's original are protected; a task that was born here has none.
    fn parent(&self, serving: &Serving) -> Result<Parent, LearnError> {
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

    /// Signs what was learned, stores it, and lets it serve on trial.
    fn serve_tuned(&self, file: &[u8]) -> Result<(), LearnError> {
        self.install_tuned(file).map_err(LearnError::Refused)
    }
}
