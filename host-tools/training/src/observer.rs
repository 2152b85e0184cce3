//! Progress of a run, and a way to stop it.

use std::time::{Duration, Instant};

use clr_adapters::Recipe;

use crate::{Record, Warning};

/// Phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Images are decoded.
    Decode,
    /// The frozen features are computed.
    Features,
    /// The head is fitted to the frozen features.
    Head,
    /// The sites and the head are trained together.
    Train(Recipe),
    /// The sites and the head are trained with rounded values.
    Round(Recipe),
    /// Accuracy is measured.
    Evaluate,
}

/// Progress of a phase.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// Number of finished units: images, or steps while training.
    pub done: usize,
    /// Number of units in the phase.
    pub total: usize,
    /// Time spent in the phase.
    pub elapsed: Duration,
    /// Estimated time until the end of the phase, if known.
    pub remaining: Option<Duration>,
}

/// Callbacks from a run, all called on the calling thread. The implementation for `()` ignores them.
pub trait Observer: Send {
    /// Called when the phase has advanced.
    fn progress(&mut self, _progress: Progress) {}
    /// Called when an epoch, or the fit of the head, is finished.
    fn record(&mut self, _record: &Record) {}
    /// Called for a warning about the data.
    fn warning(&mut self, _warning: &Warning) {}
    /// Called after each epoch, when the resume file has been written. Returning `true` ends the run with
    /// [`crate::TrainError::Stopped`].
    fn should_stop(&mut self) -> bool {
        false
    }
}

impl Observer for () {}

/// Converts counts to [`Progress`], with an estimate of the remaining time.
pub(crate) struct Meter {
    phase: Phase,
    total: usize,
    done: usize,
    skipped: usize,
    start: Instant,
}

impl Meter {
    pub(crate) fn new(phase: Phase, total: usize) -> Self {
        Self {
            phase,
            total,
            done: 0,
            skipped: 0,
            start: Instant::now(),
        }
    }

    /// Counts units from an earlier run: they are included in `done`, but not in the estimate.
    pub(crate) fn skip(&mut self, units: usize) {
        self.done += units;
        self.skipped += units;
    }

    pub(crate) fn advance(&mut self, units: usize, observer: &mut dyn Observer) {
        self.done += units;
        let elapsed = self.start.elapsed();
        let own = self.done - self.skipped;
        let remaining = (own > 0).then(|| elapsed.mul_f64(self.total.saturating_sub(self.done) as f64 / own as f64));
        observer.progress(Progress {
            phase: self.phase,
            done: self.done,
            total: self.total,
            elapsed,
            remaining,
        });
    }
}
