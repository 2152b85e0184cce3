//! Learning in the background: labelled pictures of the store become prototypes at once, and tuned adapters in time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use clr_adapters::{Digest, Header, Provenance, Recipe};
use clr_store::{Serving, StoreError};
use clr_transfer::{Failure, FailureCode, TunePhase, TuneRequest, TuneStatus};
use clr_tuning::{Example, Parent, Plan, Progress, TuneError, TuneOptions, Watch};
use serde::{Deserialize, Serialize};

use super::runtime::{Runtime, UNLABELLED, lock, now, with_causes};

/// Memory that tuning may bring the whole process to, where the request names none.
const MEMORY: u64 = 300_000_000;

/// What is being learned; one run at a time.
#[derive(Debug, Default)]
pub(crate) struct Learning {
    status: Mutex<TuneStatus>,
    stop: AtomicBool,
}

/// What a checkpoint needs beside the state of the run, to go on by itself after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    request: TuneRequest,
    created: u64,
}

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
enum LearnError {
    #[error(transparent)]
    Tune(#[from] TuneError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(Failure),
}

/// How a run ended.
enum Outcome {
    Promoted(String),
    Kept(String),
}

impl Learning {
    pub(crate) fn status(&self) -> TuneStatus {
        lock(&self.status).clone()
    }

    pub(crate) fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn update(&self, change: impl FnOnce(&mut TuneStatus)) {
        change(&mut lock(&self.status));
    }
}

/// The pictures of a task in the store.
struct Pictures<'a> {
    runtime: &'a Runtime,
    task: &'a str,
}

impl clr_tuning::Examples for Pictures<'_> {
    fn list(&self) -> Result<Vec<Example>, String> {
        let examples = self
            .runtime
            .store
            .examples(self.task)
            .map_err(|error| error.to_string())?;
        let labelled = examples.into_iter().map(|example| Example {
            id: example.id,
            label: (example.label != UNLABELLED).then_some(example.label),
        });
        Ok(labelled.collect())
    }

    fn picture(&self, id: &Digest) -> Result<Vec<u8>, String> {
        self.runtime
            .store
            .example(self.task, id)
            .map_err(|error| error.to_string())
    }
}

/// The state of a run in the store.
struct Kept<'a> {
    runtime: &'a Runtime,
    run: &'a Run,
}

impl clr_tuning::Checkpoints for Kept<'_> {
    fn put(&self, state: &[u8]) -> Result<(), String> {
        let bytes = postcard::to_stdvec(&(self.run, state)).map_err(|error| error.to_string())?;
        let task = &self.run.request.task;
        self.runtime
            .store
            .put_checkpoint(task, &bytes)
            .map_err(|error| error.to_string())
    }

    fn get(&self) -> Result<Option<Vec<u8>>, String> {
        let task = &self.run.request.task;
        let bytes = self.runtime.store.checkpoint(task).map_err(|error| error.to_string())?;
        Ok(bytes.and_then(|bytes| {
            let (run, state): (Run, &[u8]) = postcard::from_bytes(&bytes).ok()?;
            // The state of another request is no use; the run's own digest says so as well.
            (run.created == self.run.created).then(|| state.to_vec())
        }))
    }

    fn clear(&self) -> Result<(), String> {
        self.runtime
            .store
            .clear_checkpoint(&self.run.request.task)
            .map_err(|error| error.to_string())
    }
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
    /// Starts learning on a thread of its own, behind every other.
    pub(crate) fn start_learning(&self, request: &TuneRequest) -> Result<(), Failure> {
        let created = now().unwrap_or(0);
        // A run of the same request that was cut goes on.
        let run = self
            .interrupted(&request.task)
            .filter(|run| run.request == *request)
            .unwrap_or(Run {
                request: request.clone(),
                created,
            });
        self.start_run(run)
    }

    fn start_run(&self, run: Run) -> Result<(), Failure> {
        let task = run.request.task.clone();
        let Some(runtime) = self.me.get().and_then(std::sync::Weak::upgrade) else {
            return Err(Failure::new(FailureCode::STOPPING, "the device is going down"));
        };
        {
            let mut status = lock(&self.learning.status);
            if status.phase.is_running() {
                let text = "another task is being tuned\nhint: wait for it, or stop it";
                return Err(Failure::new(FailureCode::BUSY, text));
            }
            self.learning.stop.store(false, Ordering::SeqCst);
            *status = TuneStatus {
                phase: TunePhase::Preparing,
                task: Some(task),
                ..TuneStatus::default()
            };
        }
        let started = thread::Builder::new().name("clr-learning".to_owned()).spawn(move || {
            if let Err(reason) = clr_tuning::lower_priority() {
                tracing::debug!("learning keeps its priority: {reason}");
            }
            runtime.learn(&run);
        });
        started.map(drop).map_err(|error| {
            let reason = format!("cannot start a thread: {error}");
            self.learning.update(|status| {
                (status.phase, status.message) = (TunePhase::Failed, Some(reason.clone()));
            });
            Failure::new(FailureCode::TUNING, reason)
        })
    }

    /// The run whose checkpoint is in the store.
    fn interrupted(&self, task: &str) -> Option<Run> {
        let bytes = self.store.checkpoint(task).ok().flatten()?;
        postcard::from_bytes::<(Run, &[u8])>(&bytes).ok().map(|(run, _)| run)
    }

    /// Goes on with the run that a restart cut.
    pub(crate) fn resume_learning(&self) {
        let states = self.store.tasks();
        let Some(run) = states.iter().find_map(|state| self.interrupted(&state.task)) else {
            return;
        };
        tracing::info!(task = run.request.task, "tuning was interrupted");
        if let Err(failure) = self.start_run(run) {
            tracing::warn!("{failure}");
        }
    }

    fn learn(&self, run: &Run) {
        let task = run.request.task.as_str();
        let started = Instant::now();
        // A fault in learning must not keep the device from ever learning again.
        let ended = catch_unwind(AssertUnwindSafe(|| self.try_to_learn(run, started)));
        let seconds = started.elapsed().as_secs();
        let (phase, message) = match ended {
            Ok(Ok(Outcome::Promoted(message))) => (TunePhase::Promoted, message),
            Ok(Ok(Outcome::Kept(message))) => (TunePhase::Kept, message),
            Ok(Err(LearnError::Tune(error @ TuneError::Stopped { .. }))) => (TunePhase::Stopped, with_causes(&error)),
            Ok(Err(error)) => (TunePhase::Failed, with_causes(&error)),
            Err(_) => (TunePhase::Failed, "learning panicked; the log says where".to_owned()),
        };
        crate::give_back_memory();
        tracing::info!(task, ?phase, message, "learning ended");
        self.learning.update(|status| {
            (status.phase, status.seconds, status.message) = (phase, seconds, Some(message));
        });
    }

    fn try_to_learn(&self, run: &Run, started: Instant) -> Result<Outcome, LearnError> {
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
        let kept = Kept { runtime: self, run };
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

impl std::fmt::Debug for Pictures<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pictures")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

/// The runtime as threads hold it.
pub(crate) type Myself = std::sync::OnceLock<std::sync::Weak<Runtime>>;

/// Lets the runtime find itself, so that it can start threads that hold it.
pub(crate) fn introduce(runtime: &Arc<Runtime>) {
    let _ = runtime.me.set(Arc::downgrade(runtime));
}
