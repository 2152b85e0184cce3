//! Readers. They look at one snapshot and wait for nobody.

use std::sync::Arc;

use clr_adapters::{AUTO, Admitted, Decoded, Digest, Signature};

use super::{Snapshot, Store, adapter_path};
use crate::{
    error::StoreError,
    state::{StoredAdapter, StoredTask},
    verify::{Problem, ProblemKind},
};

/// How often a reader looks again because the adapter it wanted was replaced meanwhile.
const TRIES: usize = 16;

/// The adapter that is to serve a task, read from the disk and verified just now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServingAdapter {
    /// The adapter.
    pub decoded: Decoded,
    /// What the store knows of it; `held.digest` names it.
    pub held: StoredAdapter,
    /// Whether it is on trial.
    pub trial: bool,
    /// Who signed it, verified.
    pub signer: Option<Signature>,
    /// Adapters that should have served instead, but are damaged or no longer trusted. Empty in the normal case.
    pub passed_over: Vec<Problem>,
}

impl Store {
    /// All tasks, by name.
    #[must_use]
    pub fn tasks(&self) -> Arc<[StoredTask]> {
        Arc::clone(&self.snapshot().list)
    }

    /// One task.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`], [`StoreError::DamagedRecord`].
    pub fn task(&self, task: &str) -> Result<StoredTask, StoreError> {
        Ok(self.snapshot().record(task)?.state.clone())
    }

    /// What was wrong when the store was opened: damaged, missing and unknown files. [`Store::verify`] looks more closely.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.opened_with
    }

    /// The adapter that is to serve a task: the one on trial if there is one, else the confirmed one; if that is damaged, the last good
    /// one and then the publisher's original.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTask`], [`StoreError::DamagedRecord`], and [`StoreError::NothingServes`] with what is wrong with each.
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
                        tracing::error!(task, %problem, "an adapter is passed over");
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

    /// The bytes of an adapter that the store keeps, as they were received.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAdapter`]; [`StoreError::Io`] and [`StoreError::Damaged`] if it cannot be read.
    pub fn file(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        for _ in 0..TRIES {
            let snapshot = self.snapshot();
            let held = snapshot.records.values().find_map(|record| record.state.holds(digest));
            let held = held.ok_or(StoreError::NoSuchAdapter { digest: *digest })?;
            match self.read_adapter(&held) {
                Ok(bytes) => return Ok(bytes),
                Err(_) if self.has_moved_on(&snapshot) => {}
                Err(problem) => return Err(problem.into_error()),
            }
        }
        Err(StoreError::NoSuchAdapter { digest: *digest })
    }

    /// The task to serve after a restart, if there still is such a task; [`AUTO`] if it is chosen from each frame. Where both copies of the
    /// name are damaged, the only task, or else the one that was confirmed last.
    #[must_use]
    pub fn active(&self) -> Option<String> {
        let snapshot = self.snapshot();
        if snapshot.active_lost {
            let last = snapshot.list.iter().max_by_key(|state| state.confirmation);
            return last.map(|state| state.task.clone());
        }
        let there = |task: &String| task == AUTO || snapshot.record(task).is_ok();
        snapshot.active.clone().filter(there)
    }

    fn has_moved_on(&self, snapshot: &Arc<Snapshot>) -> bool {
        !Arc::ptr_eq(snapshot, &self.snapshot())
    }

    /// Reads an adapter and compares it with its name.
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

    /// Reads an adapter and checks it as if it had just arrived. Expiry is for arrivals alone: what was confirmed in time serves on.
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
