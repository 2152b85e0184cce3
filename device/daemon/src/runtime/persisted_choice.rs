//! Persisted choice of the tasks. The device resumes with it after a restart.
//!
//! A client may name another task every second, and each write wears flash memory. Writes are therefore at least 30 s
//! apart; the latest choice is written at the end of the interval, or on shutdown. A failed write is repeated. A power
//! cut before a write loses only the choice.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clr_store::StoreError;
use clr_transfer::{Failure, FailureCode};

use super::{Runtime, failure, lock, with_causes};
use crate::task_choice::TaskChoice;

/// Time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(30);

/// Time of the last write, and the choice that has not been written yet.
#[derive(Debug, Default)]
pub(super) struct PendingChoice {
    written: Option<Instant>,
    choice: Option<TaskChoice>,
}

impl PendingChoice {
    /// Sets the choice. Returns the choice if it must be written immediately.
    fn set(&mut self, choice: TaskChoice, now: Instant) -> Option<TaskChoice> {
        self.choice = Some(choice);
        self.due(now)
    }

    /// Returns the pending choice if the interval since the last write is over.
    fn due(&mut self, now: Instant) -> Option<TaskChoice> {
        let too_early = self
            .written
            .is_some_and(|written| now.duration_since(written) < WRITE_INTERVAL);
        if too_early { None } else { self.take(now) }
    }

    /// Restores a choice whose write has failed, unless there is a newer one.
    fn restore(&mut self, choice: TaskChoice) {
        self.choice.get_or_insert(choice);
    }

    /// Removes a task from the pending choice.
    fn forget(&mut self, task: &str) {
        self.choice = self.choice.take().and_then(|choice| choice.without(task));
    }

    /// Returns the pending choice, even if the interval since the last write is not over.
    fn take(&mut self, now: Instant) -> Option<TaskChoice> {
        let choice = self.choice.take();
        if choice.is_some() {
            self.written = Some(now);
        }
        choice
    }
}

impl Runtime {
    /// Persists `choice` for the next start, immediately or at the end of the interval.
    ///
    /// # Errors
    /// [`FailureCode::STORAGE`] if an immediate write failed. The choice is in effect nevertheless.
    pub(super) fn persist(&self, choice: TaskChoice) -> Result<(), Failure> {
        let now = lock(&self.pending_choice).set(choice, Instant::now());
        now.map_or(Ok(()), |choice| self.write(choice))
    }

    /// Removes a task, which no longer exists, from the pending choice.
    pub(super) fn forget_choice(&self, task: &str) {
        lock(&self.pending_choice).forget(task);
    }

    /// Writes the pending choice if its interval is over or the device is `stopping`.
    pub(crate) fn flush_pending(&self, stopping: bool) {
        let choice = {
            let mut pending = lock(&self.pending_choice);
            if stopping {
                pending.take(Instant::now())
            } else {
                pending.due(Instant::now())
            }
        };
        if let Some(Err(failure)) = choice.map(|choice| self.write(choice)) {
            tracing::warn!("{failure}");
        }
    }

    fn write(&self, choice: TaskChoice) -> Result<(), Failure> {
        let written = self.try_to_write(&choice);
        if written.is_err() {
            lock(&self.pending_choice).restore(choice);
        }
        written
    }

    fn try_to_write(&self, choice: &TaskChoice) -> Result<(), Failure> {
        match self.store.set_active(&choice.names()) {
            Ok(()) => {
                self.remove_marker();
                Ok(())
            }
            // The task was removed before the write. The other tasks of its group stay selected.
            Err(StoreError::NoSuchTask { task, .. }) => match choice.clone().without(&task) {
                Some(rest) if rest != *choice => self.try_to_write(&rest),
                _ => Ok(()),
            },
            Err(error @ StoreError::Io { .. }) => Err(not_persisted(&error)),
            Err(error) => Err(failure::of_store(error)),
        }
    }

    /// Returns the path of the file with which older versions recorded the automatic choice.
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

/// Returns the failure for a switch that is in effect but not persisted.
fn not_persisted(error: &dyn std::error::Error) -> Failure {
    let text = format!("switched, but the choice cannot be persisted: {}", with_causes(error));
    Failure::new(FailureCode::STORAGE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_soon_after_a_write_is_delayed_and_only_the_latest_is_written() {
        let task = |name: &str| TaskChoice::Tasks(vec![name.to_owned()]);
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut pending = PendingChoice::default();
        assert_eq!(pending.set(task("birds"), at(0)), Some(task("birds")));
        assert_eq!(pending.set(task("cats"), at(1)), None);
        assert_eq!(pending.set(TaskChoice::Auto, at(2)), None);
        assert_eq!(pending.due(at(29)), None);
        assert_eq!(pending.due(at(30)), Some(TaskChoice::Auto));
        assert_eq!(pending.due(at(90)), None, "once");
        // After the interval, the next choice is written immediately.
        assert_eq!(pending.set(task("cats"), at(90)), Some(task("cats")));
        assert_eq!(pending.set(task("birds"), at(91)), None);
        assert_eq!(pending.take(at(92)), Some(task("birds")));
        assert_eq!(pending.take(at(92)), None);
    }

    #[test]
    fn a_removed_task_is_not_written() {
        let now = Instant::now();
        let group = TaskChoice::of_names(&["birds", "cats"]).unwrap();
        let mut pending = PendingChoice::default();
        pending.set(group.clone(), now);
        assert_eq!(pending.set(group, now), None);
        pending.forget("birds");
        assert_eq!(pending.take(now), Some(TaskChoice::of_names(&["cats"]).unwrap()));
    }

    #[test]
    fn a_failed_write_is_repeated_unless_there_is_a_newer_choice() {
        let task = |name: &str| TaskChoice::Tasks(vec![name.to_owned()]);
        let (now, later) = (Instant::now(), Instant::now() + WRITE_INTERVAL);
        let mut pending = PendingChoice::default();
        pending.set(task("birds"), now);
        pending.restore(task("birds"));
        assert_eq!(pending.due(now), None);
        assert_eq!(pending.due(later), Some(task("birds")));
        pending.set(TaskChoice::Auto, later);
        pending.restore(task("birds"));
        assert_eq!(pending.take(later), Some(TaskChoice::Auto));
    }
}
