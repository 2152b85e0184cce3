//! Learning in the background: labelled pictures of the store become prototypes at once, and tuned adapters in time.

mod attempt;
mod stored;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
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
        if let Some(reason) = &self.without_key {
            let text = format!("the device cannot sign what it learns: {reason}");
            return Err(Failure::new(FailureCode::TUNING, text));
        }
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
        self.counters.learning_runs.add(match phase {
            TunePhase::Promoted => "promoted",
            TunePhase::Kept => "kept",
            TunePhase::Stopped => "stopped",
            _ => "failed",
        });
        crate::give_back_memory();
        tracing::info!(task, ?phase, message, "learning ended");
        self.learning.update(|status| {
            (status.phase, status.seconds, status.message) = (phase, seconds, Some(message));
        });
    }
}

/// The runtime as threads hold it.
pub(crate) type Myself = std::sync::OnceLock<std::sync::Weak<Runtime>>;

/// Lets the runtime find itself, so that it can start threads that hold it.
pub(crate) fn introduce(runtime: &Arc<Runtime>) {
    let _ = runtime.me.set(Arc::downgrade(runtime));
}
