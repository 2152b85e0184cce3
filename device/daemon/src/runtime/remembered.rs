//! What a restart goes on with: the task that was named last, or that it is chosen from each frame.
//!
//! Each write wears flash memory, and a robot may name another task every second. So what is named soon after a write waits, and what waits
//! is written when its time has come or the device stops; what could not be written waits again. A power cut meanwhile costs no more than the
//! choice.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clr_adapters::AUTO;
use clr_store::StoreError;
use clr_transfer::{Failure, FailureCode};

use super::{Runtime, failure, lock, with_causes};

/// Between two writes.
const PERIOD: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The task is chosen from each frame.
    Auto,
    Task(String),
}

/// When a choice was last written, and the one that waits.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    written: Option<Instant>,
    waiting: Option<Choice>,
}

impl Remembered {
    /// What is to be written at once; nothing if it has to wait.
    fn name(&mut self, choice: Choice, now: Instant) -> Option<Choice> {
        self.waiting = Some(choice);
        self.due(now)
    }

    /// What has waited long enough.
    fn due(&mut self, now: Instant) -> Option<Choice> {
        let rests = self.written.is_some_and(|written| now.duration_since(written) < PERIOD);
        if rests { None } else { self.rest(now) }
    }

    /// `choice` could not be written.
    fn failed(&mut self, choice: Choice) {
        self.waiting.get_or_insert(choice);
    }

    /// Whatever waits.
    fn rest(&mut self, now: Instant) -> Option<Choice> {
        let choice = self.waiting.take();
        if choice.is_some() {
            self.written = Some(now);
        }
        choice
    }
}

impl Runtime {
    /// Remembers `choice` for a restart, now or before long.
    ///
    /// # Errors
    /// [`FailureCode::STORAGE`] where it was written now and could not be: it is in force all the same.
    pub(super) fn remember(&self, choice: Choice) -> Result<(), Failure> {
        let now = lock(&self.remembered).name(choice, Instant::now());
        now.map_or(Ok(()), |choice| self.write(choice))
    }

    /// Writes what waits, once it has waited long enough or when `stopping`.
    pub(crate) fn write_what_waits(&self, stopping: bool) {
        let choice = {
            let mut remembered = lock(&self.remembered);
            if stopping {
                remembered.rest(Instant::now())
            } else {
                remembered.due(Instant::now())
            }
        };
        if let Some(Err(failure)) = choice.map(|choice| self.write(choice)) {
            tracing::warn!("{failure}");
        }
    }

    fn write(&self, choice: Choice) -> Result<(), Failure> {
        let written = self.try_to_write(&choice);
        if written.is_err() {
            lock(&self.remembered).failed(choice);
        }
        written
    }

    fn try_to_write(&self, choice: &Choice) -> Result<(), Failure> {
        let written = self.store.set_active(match choice {
            Choice::Auto => AUTO,
            Choice::Task(task) => task,
        });
        match written {
            Ok(()) => {
                self.remove_marker();
                Ok(())
            }
            // Removed while its name waited.
            Err(StoreError::NoSuchTask { .. }) => Ok(()),
            Err(error @ StoreError::Io { .. }) => Err(unremembered(&error)),
            Err(error) => Err(failure::of_store(error)),
        }
    }

    /// A file of older versions that was there while the task was chosen from the frame.
    pub(super) fn marker(&self) -> PathBuf {
        self.config.load().state.join("auto")
    }

    fn remove_marker(&self) {
        let marker = self.marker();
        let removed = if marker.is_dir() {
            std::fs::remove_dir_all(&marker)
        } else {
            std::fs::remove_file(&marker)
        };
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove '{}': {error}", marker.display());
        }
    }
}

/// The switch is in force, but a restart will not know of it.
fn unremembered(error: &dyn std::error::Error) -> Failure {
    let text = format!(
        "switched, but it cannot be remembered over a restart: {}",
        with_causes(error)
    );
    Failure::new(FailureCode::STORAGE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_soon_after_a_write_waits_and_only_the_last_of_it_is_written() {
        let task = |name: &str| Choice::Task(name.to_owned());
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut remembered = Remembered::default();
        assert_eq!(remembered.name(task("birds"), at(0)), Some(task("birds")));
        assert_eq!(remembered.name(task("cats"), at(1)), None);
        assert_eq!(remembered.name(Choice::Auto, at(2)), None);
        assert_eq!(remembered.due(at(29)), None);
        assert_eq!(remembered.due(at(30)), Some(Choice::Auto));
        assert_eq!(remembered.due(at(90)), None, "once");
        // After a pause the next one is written at once again.
        assert_eq!(remembered.name(task("cats"), at(90)), Some(task("cats")));
        assert_eq!(remembered.name(task("birds"), at(91)), None);
        assert_eq!(remembered.rest(at(92)), Some(task("birds")));
        assert_eq!(remembered.rest(at(92)), None);
    }

    #[test]
    fn what_could_not_be_written_waits_again_unless_something_newer_does() {
        let task = |name: &str| Choice::Task(name.to_owned());
        let (now, later) = (Instant::now(), Instant::now() + PERIOD);
        let mut remembered = Remembered::default();
        remembered.name(task("birds"), now);
        remembered.failed(task("birds"));
        assert_eq!(remembered.due(now), None);
        assert_eq!(remembered.due(later), Some(task("birds")));
        remembered.name(Choice::Auto, later);
        remembered.failed(task("birds"));
        assert_eq!(remembered.rest(later), Some(Choice::Auto));
    }
}
