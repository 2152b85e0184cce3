//! Transitions of installed adapters: start, use, confirmation, reversion, rollback and restore.

use std::sync::Arc;

use clr_adapters::{AUTO, Digest};

use super::{Store, Writer};
use crate::{
    active,
    atomic::Failure,
    error::StoreError,
    record::{self, Record},
    state::{OnTrial, Progress, StoredAdapter, StoredTask},
};

/// Number of unclean ends after which a trial is reverted.
const UNCLEAN_ENDS: u32 = 3;

/// Outcome of [`Store::record_start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartOutcome {
    /// No adapter is on trial.
    NoTrial,
    /// An adapter is on trial. The last run ended cleanly, or for a reason unrelated to the adapter.
    OnTrial,
    /// The last run ended uncleanly while the adapter on trial was in use.
    Unclean {
        /// Number of unclean ends in this trial.
        times: u32,
    },
    /// The run ended uncleanly for the third time, and the adapter was reverted.
    Reverted {
        /// The adapter.
        held: StoredAdapter,
    },
}

impl Store {
    /// Records that the program starts to serve a task. If the last run ended uncleanly while the adapter on trial was
    /// in use, that is counted, and the third such end reverts the adapter. A start after a clean end is not counted.
    /// `blamed` states whether the adapter may have caused the end; it is false if, for example, an image could not be
    /// decoded.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`] or [`StoreError::DamagedRecord`] if the task has no readable record;
    /// [`StoreError::Io`] if the record cannot be written.
    pub fn record_start(&self, task: &str, blamed: bool, now: Option<u64>) -> Result<StartOutcome, StoreError> {
        self.change(task, |record| {
            let Some(trial) = &mut record.state.trial else {
                return Ok(StartOutcome::NoTrial);
            };
            if !std::mem::take(&mut trial.in_use) {
                return Ok(StartOutcome::OnTrial);
            }
            // After an unclean end the stored progress is outdated, so the trial starts again.
            trial.progress = Progress::default();
            if !blamed {
                return Ok(StartOutcome::OnTrial);
            }
            trial.unclean += 1;
            let times = trial.unclean;
            if times < UNCLEAN_ENDS {
                return Ok(StartOutcome::Unclean { times });
            }
            let reason = format!("the device ended uncleanly {times} times while it was in use");
            let held = record.state.revert(&reason, now);
            Ok(held.map_or(StartOutcome::NoTrial, |held| StartOutcome::Reverted { held }))
        })
    }

    /// Marks the adapter on trial as in use. Called before its first frame after a start.
    ///
    /// # Errors
    /// [`StoreError`] in the same cases as [`Store::confirm`].
    pub fn begin_use(&self, task: &str, digest: &Digest) -> Result<(), StoreError> {
        self.change_trial(task, digest, |trial| trial.in_use = true)
    }

    /// Records a clean end of the program, with the progress of the trial.
    ///
    /// # Errors
    /// [`StoreError`] in the same cases as [`Store::confirm`].
    pub fn end_use(&self, task: &str, digest: &Digest, progress: Progress) -> Result<(), StoreError> {
        self.change_trial(task, digest, |trial| {
            trial.in_use = false;
            trial.progress = progress;
        })
    }

    fn change_trial(&self, task: &str, digest: &Digest, change: impl FnOnce(&mut OnTrial)) -> Result<(), StoreError> {
        self.change(task, |record| match &mut record.state.trial {
            Some(trial) if trial.held.digest == *digest => {
                change(trial);
                Ok(())
            }
            _ => Err(StoreError::NoTrial { task: task.to_owned() }),
        })
    }

    /// Confirms the adapter with this digest after its trial.
    ///
    /// # Errors
    /// [`StoreError::NoTrial`] if another adapter or none is on trial; [`StoreError::NoSuchTask`] or
    /// [`StoreError::DamagedRecord`] if the task has no readable record; [`StoreError::Io`] if the record cannot be
    /// written.
    pub fn confirm(&self, task: &str, digest: &Digest) -> Result<StoredAdapter, StoreError> {
        let mut writer = self.writer();
        self.check_trial(task, digest)?;
        self.confirm_trial(&mut writer, task)
    }

    /// Reverts the adapter with this digest after a failed trial, and stores the reason. The confirmed adapter serves
    /// again.
    ///
    /// # Errors
    /// [`StoreError`] in the same cases as [`Store::confirm`].
    pub fn revert(
        &self,
        task: &str,
        digest: &Digest,
        reason: &str,
        now: Option<u64>,
    ) -> Result<StoredAdapter, StoreError> {
        self.change(task, |record| {
            let on_trial = record.is_on_trial(digest);
            let held = if on_trial {
                record.state.revert(reason, now).ok()
            } else {
                None
            };
            held.ok_or_else(|| StoreError::NoTrial { task: task.to_owned() })
        })
    }

    /// Confirms the adapter on trial on request. Does nothing if no adapter is on trial.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`] or [`StoreError::DamagedRecord`] if the task has no readable record;
    /// [`StoreError::Io`] if the record cannot be written.
    pub fn mark_good(&self, task: &str) -> Result<(), StoreError> {
        let mut writer = self.writer();
        if self.snapshot().record(task)?.state.trial.is_none() {
            return Ok(());
        }
        self.confirm_trial(&mut writer, task).map(drop)
    }

    /// Marks the serving adapter as bad on request. An adapter on trial is reverted. A confirmed adapter is replaced by
    /// the last good one and is not kept. Returns the adapter taken out of service.
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`] if there is no adapter to serve instead; [`StoreError::NoSuchTask`] or
    /// [`StoreError::DamagedRecord`] if the task has no readable record; [`StoreError::Io`] if the record cannot be
    /// written.
    pub fn mark_bad(&self, task: &str, now: Option<u64>) -> Result<StoredAdapter, StoreError> {
        self.change(task, |record| {
            let held = record.state.mark_bad("marked bad by hand", now);
            held.map_err(|_| StoreError::NothingToRollBack { task: task.to_owned() })
        })
    }

    /// Rolls back on request. An adapter on trial is reverted. Without a trial, the confirmed adapter and the last good
    /// one are exchanged, so a second rollback undoes the first. The highest admitted version does not change. Returns
    /// the adapter taken out of service.
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`] if there is no adapter to serve instead; [`StoreError::NoSuchTask`] or
    /// [`StoreError::DamagedRecord`] if the task has no readable record; [`StoreError::Io`] if the record cannot be
    /// written.
    pub fn rollback(&self, task: &str, now: Option<u64>) -> Result<StoredAdapter, StoreError> {
        self.change(task, |record| {
            let held = record.state.roll_back("rolled back by hand", now);
            held.map_err(|_| StoreError::NothingToRollBack { task: task.to_owned() })
        })
    }

    /// Restores the publisher's original of a tuned adapter on request. The tuned adapter becomes the last good one.
    /// Returns the adapter taken out of service.
    ///
    /// # Errors
    /// [`StoreError::NothingToRestore`] if no adapter tuned on the device can be replaced by a publisher's adapter;
    /// [`StoreError::NoSuchTask`] or [`StoreError::DamagedRecord`] if the task has no readable record;
    /// [`StoreError::Io`] if the record cannot be written.
    pub fn restore(&self, task: &str, now: Option<u64>) -> Result<StoredAdapter, StoreError> {
        self.change(task, |record| {
            let held = record
                .state
                .restore("restored to the publisher's original by hand", now);
            held.map_err(|_| StoreError::NothingToRestore { task: task.to_owned() })
        })
    }

    /// Stores the tasks to serve after a restart, in their order. [`clr_adapters::AUTO`] alone selects the task for each
    /// frame.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`] or [`StoreError::DamagedRecord`] if a task has no readable record;
    /// [`StoreError::Full`] if the names are longer than 16 KiB; [`StoreError::Io`] if the choice cannot be written.
    pub fn set_active(&self, tasks: &[impl AsRef<str>]) -> Result<(), StoreError> {
        let tasks: Vec<String> = tasks.iter().map(|task| task.as_ref().to_owned()).collect();
        let mut writer = self.writer();
        if tasks != [AUTO] {
            let snapshot = self.snapshot();
            tasks.iter().try_for_each(|task| snapshot.record(task).map(drop))?;
        }
        let got = active::file(&tasks).len() as u64;
        if got > record::LARGEST {
            return Err(StoreError::Full {
                what: "bytes of the active tasks' names",
                cap: record::LARGEST,
                got,
                hint: "name fewer tasks",
            });
        }
        self.put_active(&mut writer, tasks)
    }

    /// Stores that no task is active after a restart.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the choice cannot be written.
    pub fn clear_active(&self) -> Result<(), StoreError> {
        self.put_active(&mut self.writer(), Vec::new())
    }

    fn check_trial(&self, task: &str, digest: &Digest) -> Result<(), StoreError> {
        if self.snapshot().record(task)?.is_on_trial(digest) {
            return Ok(());
        }
        Err(StoreError::NoTrial { task: task.to_owned() })
    }

    fn confirm_trial(&self, writer: &mut Writer, task: &str) -> Result<StoredAdapter, StoreError> {
        let mut record = Record::clone(self.snapshot().record(task)?);
        // A damaged adapter must not become the last good one.
        let StoredTask { confirmed, .. } = record.state;
        let damaged = confirmed.is_some_and(|confirmed| self.read_adapter(&confirmed).is_err());
        let held = record
            .state
            .confirm(damaged)
            .map_err(|_| StoreError::NoTrial { task: task.to_owned() })?;
        record.remember(&held);
        let snapshot = self.snapshot();
        let confirmations = snapshot.records.values().map(|record| record.state.confirmation);
        record.state.confirmation = confirmations.max().unwrap_or(0) + 1;
        self.put(writer, record).map_err(Failure::into_error)?;
        Ok(held)
    }

    fn change<T>(
        &self,
        task: &str,
        change: impl FnOnce(&mut Record) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer();
        let mut record = Record::clone(Arc::as_ref(self.snapshot().record(task)?));
        let highest_admitted = record.state.highest_admitted;
        let result = change(&mut record)?;
        // If the highest admitted version falls, the failed adapter is also removed from the known digests.
        if let Some(reverted) = record
            .state
            .reverted
            .as_ref()
            .filter(|_| record.state.highest_admitted < highest_admitted)
        {
            let failed = reverted.held.digest;
            record.known.retain(|known| *known != failed);
        }
        self.put(&mut writer, record).map_err(Failure::into_error)?;
        Ok(result)
    }
}
