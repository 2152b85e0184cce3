//! Reads from an immutable snapshot, never blocked by a writer.

use std::sync::Arc;

use clr_adapters::{AUTO, Admitted, Decoded, Digest, Signature};

use super::{Snapshot, Store};
use crate::{
    error::StoreError,
    layout::adapter_path,
    problem::{Problem, ProblemKind},
    state::{StoredAdapter, StoredTask},
};

/// Maximum number of retries of a reader whose adapter was replaced while it read.
const TRIES: usize = 16;

/// The serving adapter of a task, read from the disk and verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServingAdapter {
    /// The adapter.
    pub decoded: Decoded,
    /// The adapter's entry in the store, identified by `held.digest`.
    pub held: StoredAdapter,
    /// Whether the adapter is on trial.
    pub trial: bool,
    /// The adapter's verified signature.
    pub signer: Option<Signature>,
    /// Preferred adapters that were skipped because they are damaged or no longer trusted; usually empty.
    pub passed_over: Vec<Problem>,
}

impl Store {
    /// Returns all tasks, by name.
    #[must_use]
    pub fn tasks(&self) -> Arc<[StoredTask]> {
        Arc::clone(&self.snapshot().list)
    }

    /// Returns one task.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`] if there is no such task; [`StoreError::DamagedRecord`] if its record is damaged.
    pub fn task(&self, task: &str) -> Result<StoredTask, StoreError> {
        Ok(self.snapshot().record(task)?.state.clone())
    }

    /// Returns the problems found when the store was opened: damaged, missing and unknown files. [`Store::verify`]
    /// checks more.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.opened_with
    }

    /// Returns the serving adapter of a task: the first intact one of the adapter on trial, the confirmed one, the last
    /// good one and the publisher's original.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`] if there is no such task; [`StoreError::DamagedRecord`] if its record is damaged;
    /// [`StoreError::NothingServes`] if none of its adapters is intact, with the problem of each one.
    pub fn serving(&self, task: &str) -> Result<ServingAdapter, StoreError> {
        'again: for _ in 0..TRIES {
            let snapshot = self.snapshot();
            let state = &snapshot.record(task)?.state;
            let mut passed_over = Vec::new();
            for held in state.candidates() {
                match self.load(task, &held) {
                    Ok(Admitted { decoded, signer, .. }) => {
                        let trial = state.trial.is_some_and(|trial| trial.held.digest == held.digest);
                        return Ok(ServingAdapter {
                            decoded,
                            held,
                            trial,
                            signer,
                            passed_over,
                        });
                    }
                    Err(_) if self.has_moved_on(&snapshot) => continue 'again,
                    Err(problem) => {
                        tracing::error!(task, %problem, "adapter skipped");
                        passed_over.push(problem);
                    }
                }
            }
            return Err(StoreError::NothingServes {
                task: task.to_owned(),
                tried: passed_over,
            });
        }
        Err(StoreError::NothingServes {
            task: task.to_owned(),
            tried: Vec::new(),
        })
    }

    /// Returns the bytes of an adapter as received.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAdapter`] if no task has an adapter with this digest; [`StoreError::Io`] or
    /// [`StoreError::Damaged`] if its file cannot be read.
    pub fn file(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        for _ in 0..TRIES {
            let snapshot = self.snapshot();
            let held = snapshot.records.values().find_map(|record| record.state.holds(digest));
            let held = held.ok_or(StoreError::NoSuchAdapter { digest: *digest })?;
            match self.read_adapter(&held) {
                Ok(bytes) => return Ok(bytes),
                Err(_) if self.has_moved_on(&snapshot) => {}
                Err(problem) => return Err(StoreError::of_problem(problem)),
            }
        }
        Err(StoreError::NoSuchAdapter { digest: *digest })
    }

    /// Returns the tasks to serve after a restart that still exist, in their order, or [`AUTO`] if the task is selected
    /// for each frame; empty if no task is active. If the stored names and their copy are damaged, returns the only task
    /// or the one with the last confirmation.
    #[must_use]
    pub fn active(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        if snapshot.active_lost {
            let last = snapshot.list.iter().max_by_key(|state| state.confirmation);
            return last.map(|state| state.task.clone()).into_iter().collect();
        }
        let there = |task: &&String| *task == AUTO || snapshot.record(task).is_ok();
        snapshot.active.iter().filter(there).cloned().collect()
    }

    fn has_moved_on(&self, snapshot: &Arc<Snapshot>) -> bool {
        !Arc::ptr_eq(snapshot, &self.snapshot())
    }

    /// Reads an adapter's file and compares it with the digest in its name.
    pub(crate) fn read_adapter(&self, held: &StoredAdapter) -> Result<Vec<u8>, Problem> {
        let file = adapter_path(&held.digest);
        let problem = |kind| Problem {
            file: file.clone(),
            kind,
        };
        let length = self
            .storage
            .length(&file)
            .map_err(|error| problem(ProblemKind::of(&error)))?;
        if length != held.bytes {
            return Err(problem(ProblemKind::Length {
                expected: held.bytes,
                got: length,
            }));
        }
        let bytes = self.storage.read(&file, 0, length as usize);
        let bytes = bytes.map_err(|error| problem(ProblemKind::of(&error)))?;
        match Digest::of(&bytes) {
            got if got == held.digest => Ok(bytes),
            got => Err(problem(ProblemKind::Digest { got })),
        }
    }

    /// Reads an adapter and checks it like a received file, but not its expiry: an adapter that was admitted in time
    /// continues to serve.
    pub(crate) fn load(&self, task: &str, held: &StoredAdapter) -> Result<Admitted, Problem> {
        let bytes = self.read_adapter(held)?;
        let problem = |kind| Problem {
            file: adapter_path(&held.digest),
            kind,
        };
        let admitted = self.admit(&bytes, None);
        let admitted = admitted.map_err(|refusal| problem(ProblemKind::Refused(Box::new(refusal))))?;
        let got = &admitted.decoded.adapter.header.task;
        if got == task {
            Ok(admitted)
        } else {
            Err(problem(ProblemKind::OtherTask { got: got.clone() }))
        }
    }
}
