//! Learning in the background. Stored labelled images become class weights immediately, and a tuning run turns them
//! into a tuned adapter.

mod attempt;
mod bounds;
mod stored;
mod teach;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use clr_transfer::{Failure, FailureCode, TunePhase, TuneRequest, TuneStatus};
use clr_tuning::TuneError;
use serde::{Deserialize, Serialize};

use self::attempt::{LearnError, Outcome};
use super::runtime::{Runtime, lock, now, with_causes};

/// State of learning. There is at most one run at a time.
#[derive(Debug, Default)]
pub(crate) struct Learning {
    status: Mutex<TuneStatus>,
    stop: AtomicBool,
    taught: Mutex<teach::Taught>,
}

/// Description of a run. It is stored with the run's state, so that the run can resume after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    request: TuneRequest,
    created: u64,
    /// Duration of the run before the last restart, in seconds.
    spent: u64,
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

impl Runtime {
    /// Starts learning on a dedicated thread with the lowest priority.
    pub(crate) fn start_learning(&self, request: &TuneRequest) -> Result<(), Failure> {
        let granted = bounds::Bounds::of(&self.config.load().tuning).grant(request)?;
        tracing::info!(
            task = request.task,
            memory = granted.memory,
            steps = granted.steps,
            seconds = granted.seconds,
            "tuning requested"
        );
        let created = now().unwrap_or(0);
        // If a run of the same request was interrupted, it resumes.
        let run = self
            .interrupted(&request.task)
            .filter(|run| run.request == *request)
            .map_or_else(
                || Run {
                    request: request.clone(),
                    created,
                    spent: 0,
                },
                |run| Run { spent: 0, ..run },
            );
        self.start_run(run)
    }

    fn start_run(&self, run: Run) -> Result<(), Failure> {
        if let Some(reason) = &self.without_key {
            let text = format!("the device cannot sign what it learns: {reason}");
            return Err(Failure::new(FailureCode::TUNING, text));
        }
        let task = run.request.task.clone();
        self.start_thread(&task, move |runtime| runtime.learn(&run))
    }

    /// Runs `work` on the learning thread. There is one at a time.
    fn start_thread(&self, task: &str, work: impl FnOnce(&Self) + Send + 'static) -> Result<(), Failure> {
        let Some(runtime) = self.this.upgrade() else {
            return Err(Failure::new(FailureCode::STOPPING, "the device is stopping"));
        };
        {
            let mut status = lock(&self.learning.status);
            if status.phase.is_running() {
                let busy = status.task.as_deref().unwrap_or_default();
                let text = format_args!(
                    "the device is already learning task `{busy}`, one at a time\nhint: wait until `clr device tuning` reports its end, or \
                     `clr device stop-tuning`"
                );
                return Err(Failure::new(FailureCode::BUSY, text));
            }
            self.learning.stop.store(false, Ordering::SeqCst);
            *status = TuneStatus {
                phase: TunePhase::Preparing,
                task: Some(task.to_owned()),
                ..TuneStatus::default()
            };
        }
        let started = thread::Builder::new().name("clr-learning".to_owned()).spawn(move || {
            if let Err(reason) = clr_tuning::lower_priority() {
                tracing::debug!("cannot lower the priority of learning: {reason}");
            }
            work(&runtime);
        });
        started.map(drop).map_err(|error| {
            let reason = format!("cannot start a thread: {error}");
            self.learning.update(|status| {
                (status.phase, status.message) = (TunePhase::Failed, Some(reason.clone()));
            });
            Failure::new(FailureCode::TUNING, reason)
        })
    }

    /// Returns the interrupted run whose state is in the store.
    fn interrupted(&self, task: &str) -> Option<Run> {
        let bytes = self.store.checkpoint(task).ok().flatten()?;
        postcard::from_bytes::<(Run, &[u8])>(&bytes).ok().map(|(run, _)| run)
    }

    /// Resumes the run that a restart interrupted.
    pub(crate) fn resume_learning(&self) {
        let states = self.store.tasks();
        let Some(run) = states.iter().find_map(|state| self.interrupted(&state.task)) else {
            return;
        };
        let most = bounds::Bounds::of(&self.config.load().tuning).seconds;
        let most = run.request.seconds.map_or(most, |asked| asked.min(most));
        if run.spent >= u64::from(most) {
            tracing::info!(
                task = run.request.task,
                "tuning ran out of time; the same request resumes it"
            );
            return;
        }
        tracing::info!(task = run.request.task, "resuming interrupted tuning");
        if let Err(failure) = self.start_run(run) {
            tracing::warn!("{failure}");
        }
    }

    fn learn(&self, run: &Run) {
        let task = run.request.task.as_str();
        let started = Instant::now();
        // A panic must not prevent later runs.
        let ended = catch_unwind(AssertUnwindSafe(|| self.try_to_learn(run, started)));
        let seconds = started.elapsed().as_secs();
        let (phase, message) = match ended {
            Ok(Ok(Outcome::Promoted(message))) => (TunePhase::Promoted, message),
            Ok(Ok(Outcome::Kept(message))) => (TunePhase::Kept, message),
            Ok(Err(LearnError::Tune(error @ TuneError::Stopped { .. }))) => (TunePhase::Stopped, with_causes(&error)),
            Ok(Err(error)) => (TunePhase::Failed, with_causes(&error)),
            Err(_) => (TunePhase::Failed, "learning panicked; see the log".to_owned()),
        };
        self.counters.learning_runs.add(match phase {
            TunePhase::Promoted => "promoted",
            TunePhase::Kept => "kept",
            TunePhase::Stopped => "stopped",
            _ => "failed",
        });
        clr_engine::trim_heap();
        tracing::info!(task, ?phase, message, "learning ended");
        self.learning.update(|status| {
            (status.phase, status.seconds, status.message) = (phase, seconds, Some(message));
        });
    }
}
