//! What happens to an adapter once it is in.

use std::sync::Arc;

use clr_adapters::Digest;

use super::{Store, Writer};
use crate::{
    atomic::Failure,
    error::StoreError,
    record::Record,
    state::{Held, TaskState},
};

/// Starts that a trial may need. One that was not confirmed within as many ends at the next.
const STARTS: u32 = 3;

/// What [`Store::count_start`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// No adapter is on trial.
    NoTrial,
    /// This is the trial's `starts`-th start.
    OnTrial {
        /// Starts, this one included.
        starts: u32,
    },
    /// The trial did not survive three starts, and this adapter is out.
    Reverted {
        /// The adapter.
        held: Held,
    },
}

impl Store {
    /// Counts a start of the program with the task's adapter on trial; the fourth reverts it: it does not crash the device for ever.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn count_start(&self, task: &str, now: Option<u64>) -> Result<Start, StoreError> {
        self.change(task, |record| {
            let Some(trial) = &mut record.state.trial else {
                return Ok(Start::NoTrial);
            };
            if trial.starts < STARTS {
                trial.starts += 1;
                return Ok(Start::OnTrial { starts: trial.starts });
            }
            let reason = format!("not confirmed within {STARTS} starts");
            let held = record.state.revert(&reason, now);
            Ok(held.map_or(Start::NoTrial, |held| Start::Reverted { held }))
        })
    }

    /// The adapter of this digest passed its trial. Here, and not earlier, the floor rises.
    ///
    /// # Errors
    /// [`StoreError::NoTrial`] if another or none is on trial; [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn confirm(&self, task: &str, digest: &Digest) -> Result<Held, StoreError> {
        let mut writer = self.writer();
        self.check_trial(task, digest)?;
        self.confirm_trial(&mut writer, task)
    }

    /// The adapter of this digest failed its trial; the confirmed one serves again. The reason is kept.
    ///
    /// # Errors
    /// As [`Store::confirm`].
    pub fn revert(&self, task: &str, digest: &Digest, reason: &str, now: Option<u64>) -> Result<Held, StoreError> {
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
    pub fn mark_bad(&self, task: &str, now: Option<u64>) -> Result<Held, StoreError> {
        self.change(task, |record| {
            let held = record.state.mark_bad("marked bad by hand", now);
            held.map_err(|_| StoreError::NothingToRollBack { task: task.to_owned() })
        })
    }

    /// By hand: back to the last good adapter. A trial ends; without one, the confirmed adapter and the last good one change places, so a
    /// second rollback undoes the first. The floor stays. Says what is out.
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`], [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn rollback(&self, task: &str, now: Option<u64>) -> Result<Held, StoreError> {
        self.change(task, |record| {
            let held = record.state.roll_back("rolled back by hand", now);
            held.map_err(|_| StoreError::NothingToRollBack { task: task.to_owned() })
        })
    }

    /// By hand: back to the publisher's original of a tuned adapter, which becomes the last good one. Says what is out.
    ///
    /// # Errors
    /// [`StoreError::NothingToRestore`], [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn restore(&self, task: &str, now: Option<u64>) -> Result<Held, StoreError> {
        self.change(task, |record| {
            let held = record
                .state
                .restore("restored to the publisher's original by hand", now);
            held.map_err(|_| StoreError::NothingToRestore { task: task.to_owned() })
        })
    }

    /// The task to serve after a restart.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`], [`StoreError::Io`].
    pub fn set_active(&self, task: &str) -> Result<(), StoreError> {
        let mut writer = self.writer();
        self.snapshot().record(task)?;
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

    fn confirm_trial(&self, writer: &mut Writer, task: &str) -> Result<Held, StoreError> {
        let mut record = Record::clone(self.snapshot().record(task)?);
        // A damaged adapter is nothing to fall back to: then the last good one stays.
        let TaskState { confirmed, .. } = record.state;
        let damaged = confirmed.is_some_and(|confirmed| self.read_adapter(&confirmed).is_err());
        let held = record
            .state
            .confirm(damaged)
            .map_err(|_| StoreError::NoTrial { task: task.to_owned() })?;
        record.remember(&held);
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
        let answer = change(&mut record)?;
        self.put(&mut writer, record).map_err(Failure::into_error)?;
        Ok(answer)
    }
}
