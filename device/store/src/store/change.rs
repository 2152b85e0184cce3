//! What happens to an adapter once it is in.

use std::sync::Arc;

use clr_adapters::{AUTO, Digest};

use super::{Store, Writer};
use crate::{
    atomic::Failure,
    error::StoreError,
    record::Record,
    state::{StoredAdapter, OnTrial, Progress, StoredTask},
};

/// Unclean ends that a trial survives, less one: at the third it is over.
const UNCLEAN_ENDS: u32 = 3;

/// What [`Store::record_start`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartOutcome {
    /// No adapter is on trial.
    NoTrial,
    /// An adapter is on trial, and nothing speaks against it.
    OnTrial,
    /// The program ended uncleanly while the adapter on trial was in use.
    Unclean {
        /// How often that has happened in this trial.
        times: u32,
    },
    /// That happened too often, and this adapter is out.
    Reverted {
        /// The adapter.
        held: StoredAdapter,
    },
}

impl Store {
    /// The program starts. If it ended uncleanly with the task's adapter on trial in use, that counts; the third time reverts the adapter:
    /// it does not crash the device indefinitely. Starts as such do not count. `blamed`: whether the end may have been the adapter's doing;
    /// it is not where the image in hand could not be decoded.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn record_start(&self, task: &str, blamed: bool, now: Option<u64>) -> Result<StartOutcome, StoreError> {
        self.change(task, |record| {
            let Some(trial) = &mut record.state.trial else {
                return Ok(StartOutcome::NoTrial);
            };
            if !std::mem::take(&mut trial.in_use) {
                return Ok(StartOutcome::OnTrial);
            }
            // What it did before that end is not known to the last frame: it begins again.
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

    /// The adapter on trial is about to answer its first frame since the start.
    ///
    /// # Errors
    /// As [`Store::confirm`].
    pub fn begin_use(&self, task: &str, digest: &Digest) -> Result<(), StoreError> {
        self.change_trial(task, digest, |trial| trial.in_use = true)
    }

    /// The program ends cleanly. How far the trial of the adapter has come is kept, and nothing counts against it.
    ///
    /// # Errors
    /// As [`Store::confirm`].
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

    /// The adapter of this digest passed its trial.
    ///
    /// # Errors
    /// [`StoreError::NoTrial`] if another or none is on trial; [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn confirm(&self, task: &str, digest: &Digest) -> Result<StoredAdapter, StoreError> {
        let mut writer = self.writer();
        self.check_trial(task, digest)?;
        self.confirm_trial(&mut writer, task)
    }

    /// The adapter of this digest failed its trial; the confirmed one serves again. The reason is kept.
    ///
    /// # Errors
    /// As [`Store::confirm`].
    pub fn revert(&self, task: &str, digest: &Digest, reason: &str, now: Option<u64>) -> Result<StoredAdapter, StoreError> {
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

    /// By hand: the adapter on trial is confirmed. Nothing happens if none is.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn mark_good(&self, task: &str) -> Result<(), StoreError> {
        let mut writer = self.writer();
        if self.snapshot().record(task)?.state.trial.is_none() {
            return Ok(());
        }
        self.confirm_trial(&mut writer, task).map(drop)
    }

    /// By hand: what serves is bad. A trial ends; a confirmed adapter makes way for the last good one and is not kept. Says what is out.
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`], [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn mark_bad(&self, task: &str, now: Option<u64>) -> Result<StoredAdapter, StoreError> {
        self.change(task, |record| {
            let held = record.state.mark_bad("marked bad by hand", now);
            held.map_err(|_| StoreError::NothingToRollBack { task: task.to_owned() })
        })
    }

    /// By hand: back to the last good adapter. A trial ends; without one, the confirmed adapter and the last good one change places, so a
    /// second rollback undoes the first. The highest admitted version stays. Says what is out.
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`], [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn rollback(&self, task: &str, now: Option<u64>) -> Result<StoredAdapter, StoreError> {
        self.change(task, |record| {
            let held = record.state.roll_back("rolled back by hand", now);
            held.map_err(|_| StoreError::NothingToRollBack { task: task.to_owned() })
        })
    }

    /// By hand: back to the publisher's original of a tuned adapter, which becomes the last good one. Says what is out.
    ///
    /// # Errors
    /// [`StoreError::NothingToRestore`], [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn restore(&self, task: &str, now: Option<u64>) -> Result<StoredAdapter, StoreError> {
        self.change(task, |record| {
            let held = record
                .state
                .restore("restored to the publisher's original by hand", now);
            held.map_err(|_| StoreError::NothingToRestore { task: task.to_owned() })
        })
    }

    /// The task to serve after a restart; [`clr_adapters::AUTO`] if it is chosen from each frame.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn set_active(&self, task: &str) -> Result<(), StoreError> {
        let mut writer = self.writer();
        if task != AUTO {
            self.snapshot().record(task)?;
        }
        self.put_active(&mut writer, Some(task))
    }

    /// No task is to serve after a restart.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn clear_active(&self) -> Result<(), StoreError> {
        self.put_active(&mut self.writer(), None)
    }

    fn check_trial(&self, task: &str, digest: &Digest) -> Result<(), StoreError> {
        if self.snapshot().record(task)?.is_on_trial(digest) {
            return Ok(());
        }
        Err(StoreError::NoTrial { task: task.to_owned() })
    }

    fn confirm_trial(&self, writer: &mut Writer, task: &str) -> Result<StoredAdapter, StoreError> {
        let mut record = Record::clone(self.snapshot().record(task)?);
        // A damaged adapter is nothing to fall back to: then the last good one stays.
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
        let answer = change(&mut record)?;
        // As the highest admitted version falls, the failed version is as if it had never come.
        if let Some(reverted) = record.state.reverted.as_ref().filter(|_| record.state.highest_admitted < highest_admitted) {
            let failed = reverted.held.digest;
            record.known.retain(|known| *known != failed);
        }
        self.put(&mut writer, record).map_err(Failure::into_error)?;
        Ok(answer)
    }
}
