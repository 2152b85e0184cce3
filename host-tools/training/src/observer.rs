//! Progress: what a caller may watch, and how it stops a run.

use std::time::{Duration, Instant};

use clr_adapters::Recipe;

use crate::{Record, Warning};

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Decoding images.
    Decode,
    /// Computing the frozen features.
    Features,
    /// Fitting the head on the frozen features.
    Head,
    /// Training the sites and the head together.
    Train(Recipe),
    /// Measuring accuracy.
    Evaluate,
}

/// How far a phase is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// Units done: images, or steps while training.
    pub done: usize,
    /// Units in the phase.
    pub total: usize,
    /// Time spent in the phase.
    pub elapsed: Duration,
    /// Estimate of the time left in the phase, once there is one.
    pub remaining: Option<Duration>,
}

/// Callbacks from a run, all on the calling thread. `()` watches nothing.
pub trait Observer: Send {
    /// The phase advanced.
    fn progress(&mut self, _progress: Progress) {}
    /// An epoch (or the head) is finished.
    fn record(&mut self, _record: &Record) {}
    /// Something about the data that a person should know.
    fn warning(&mut self, _warning: &Warning) {}
    /// Asked after each epoch, when the resume file is written: `true` ends the run with
    /// [`crate::TrainError::Stopped`].
    fn should_stop(&mut self) -> bool {
        false
    }
}

impl Observer for () {}

/// Turns counts into [`Progress`] with an estimate of the time left.
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

    /// Counts units that an earlier run did: they take part in `done`, not in the pace.
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
