//! Learning in the background. Stored labelled images become class weights immediately, and a tuning run turns them
//! into a tuned adapter.

mod attempt;
mod bounds;
mod remove_class;
mod stored;
mod teach;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use clr_transfer::{Failure, FailureCode, TunePhase, TuneRequest};
use clr_tuning::TuneError;
use serde::{Deserialize, Serialize};

use self::attempt::{LearnError, Outcome};
use super::{error::with_causes, runtime::Runtime, time::now};

/// Learning on a running device.
#[derive(Clone, Debug)]
pub(crate) struct Learner {
    runtime: Arc<Runtime>,
}

/// Description of a run. It is stored with the run's state, so that the run can resume after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    request: TuneRequest,
    created: u64,
    /// Duration of the run before the last restart, in seconds.
    spent: u64,
}

impl Learner {
    pub(crate) fn of(runtime: &Arc<Runtime>) -> Self {
        Self {
            runtime: Arc::clone(runtime),
        }
    }

    /// Starts learning on a dedicated thread with the lowest priority.
    pub(crate) fn tune(&self, request: &TuneRequest) -> Result<(), Failure> {
        let granted = bounds::Bounds::of(&self.runtime.config.load().tuning).grant(request)?;
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
        if let Some(reason) = &self.runtime.without_key {
            let text = format!("the device cannot sign what it learns: {reason}");
            return Err(Failure::new(FailureCode::TUNING, text));
        }
        let task = run.request.task.clone();
        self.start_thread(&task, move |learner| learner.learn(&run))
    }

    /// Runs `work` on the learning thread. At most one learning thread runs at a time.
    fn start_thread(&self, task: &str, work: impl FnOnce(&Self) + Send + 'static) -> Result<(), Failure> {
        let learner = self.clone();
        self.runtime.learning.begin(task)?;
        let started = thread::Builder::new().name("clr-learning".to_owned()).spawn(move || {
            if let Err(reason) = clr_tuning::lower_priority() {
                tracing::debug!("cannot lower the priority of learning: {reason}");
            }
            work(&learner);
        });
        started.map(drop).map_err(|error| {
            let reason = format!("cannot start a thread: {error}");
            self.runtime.learning.update(|status| {
                (status.phase, status.message) = (TunePhase::Failed, Some(reason.clone()));
            });
            Failure::new(FailureCode::TUNING, reason)
        })
    }

    /// Returns the interrupted run whose state is in the store.
    fn interrupted(&self, task: &str) -> Option<Run> {
        let bytes = self.runtime.store.checkpoint(task).ok().flatten()?;
        postcard::from_bytes::<(Run, &[u8])>(&bytes).ok().map(|(run, _)| run)
    }

    /// Resumes the run that a restart interrupted.
    pub(crate) fn resume(&self) {
        let states = self.runtime.store.tasks();
        let Some(run) = states.iter().find_map(|state| self.interrupted(&state.task)) else {
            return;
        };
        let most = bounds::Bounds::of(&self.runtime.config.load().tuning).seconds;
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
        self.runtime.counters.learning_runs.add(match phase {
            TunePhase::Promoted => "promoted",
            TunePhase::Kept => "kept",
            TunePhase::Stopped => "stopped",
            _ => "failed",
        });
        clr_engine::trim_heap();
        tracing::info!(task, ?phase, message, "learning ended");
        self.runtime.learning.update(|status| {
            (status.phase, status.seconds, status.message) = (phase, seconds, Some(message));
        });
    }
}
