//! State of learning: the progress of the run, and outcomes of taught classes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use clr_adapters::Digest;
use clr_transfer::{Failure, FailureCode, TeachStatus, TunePhase, TuneStatus};

use super::lock;

/// Cap of outcomes kept for later requests.
const MAX_OUTCOMES: usize = 32;
/// Maximum number of relabelled images whose previous label is kept, so that a refusal can restore it.
const MAX_RELABELLED: usize = 10_000;

/// State of learning. There is at most one run at a time.
#[derive(Debug, Default)]
pub(crate) struct LearningState {
    status: Mutex<TuneStatus>,
    stop: AtomicBool,
    taught: Mutex<Taught>,
}

/// Outcomes for the latest classes, and previous labels of relabelled images.
#[derive(Debug, Default)]
struct Taught {
    outcomes: VecDeque<((String, String), TeachStatus)>,
    /// Previous label by task and image.
    relabelled: HashMap<(String, Digest), PreviousLabel>,
}

/// Label of an image before it was relabelled; `None` if it was unlabelled.
#[derive(Debug)]
pub(crate) struct PreviousLabel(pub(crate) Option<String>);

impl LearningState {
    pub(crate) fn status(&self) -> TuneStatus {
        lock(&self.status).clone()
    }

    pub(crate) fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stop_requested(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Claims the state for a new run.
    ///
    /// # Errors
    /// [`FailureCode::BUSY`] while another run is in progress.
    pub(crate) fn begin(&self, task: &str) -> Result<(), Failure> {
        let mut status = lock(&self.status);
        if status.phase.is_running() {
            let busy = status.task.as_deref().unwrap_or_default();
            let text = format_args!(
                "the device is already learning task `{busy}`, and learns one task at a time\nhint: wait until `clr \
                 device tuning` reports its end, or `clr device stop-tuning`"
            );
            return Err(Failure::new(FailureCode::BUSY, text));
        }
        self.stop.store(false, Ordering::SeqCst);
        *status = TuneStatus {
            phase: TunePhase::Preparing,
            task: Some(task.to_owned()),
            ..TuneStatus::default()
        };
        Ok(())
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut TuneStatus)) {
        change(&mut lock(&self.status));
    }

    pub(crate) fn outcome(&self, task: &str, label: &str) -> TeachStatus {
        let taught = lock(&self.taught);
        let mut all = taught.outcomes.iter().rev();
        all.find(|((of, class), _)| of == task && class == label)
            .map_or_else(TeachStatus::default, |(_, status)| status.clone())
    }

    /// Records the previous label of an image.
    pub(crate) fn relabelled(&self, task: &str, id: Digest, from: Option<&str>) {
        let mut taught = lock(&self.taught);
        if taught.relabelled.len() < MAX_RELABELLED {
            taught
                .relabelled
                .entry((task.to_owned(), id))
                .or_insert_with(|| PreviousLabel(from.map(ToOwned::to_owned)));
        }
    }

    pub(crate) fn set_outcome(&self, task: &str, label: &str, status: TeachStatus) {
        let mut taught = lock(&self.taught);
        let key = (task.to_owned(), label.to_owned());
        taught.outcomes.retain(|(known, _)| *known != key);
        taught.outcomes.push_back((key, status));
        while taught.outcomes.len() > MAX_OUTCOMES {
            taught.outcomes.pop_front();
        }
    }

    /// Forgets the outcome of a class that was removed.
    pub(crate) fn forget_outcome(&self, task: &str, label: &str) {
        let outcomes = &mut lock(&self.taught).outcomes;
        outcomes.retain(|((of, class), _)| of != task || class != label);
    }

    /// Returns the label of an image before it was relabelled, and forgets it.
    pub(crate) fn previous_label(&self, task: &str, id: Digest) -> Option<PreviousLabel> {
        lock(&self.taught).relabelled.remove(&(task.to_owned(), id))
    }
}
