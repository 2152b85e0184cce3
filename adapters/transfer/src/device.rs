//! What a device does when it is asked.

use alloc::vec::Vec;

use clr_adapters::Digest;

use crate::{
    access::{Enrolment, HostEntry, Roles},
    failure::{Failure, FailureCode},
    message::{Begin, Committed, DeviceInfo, PullInfo, Slot},
    status::{Status, TaskSummary},
    tuning::{TuneRequest, TuneStatus},
};

/// A device, as the protocol sees it: implemented on top of its store and engine, called by [`crate::Session`] from any
/// number of connections at once.
///
/// A failed call leaves everything as it was.
pub trait Device: Sync {
    /// Who the device is.
    fn hello(&self) -> DeviceInfo;

    /// Starts or resumes a transfer; returns how many of its bytes are held durably: `length` if all of it is here already, so
    /// that [`Device::commit`] may follow at once.
    fn begin(&self, begin: &Begin) -> Result<u64, Failure>;

    /// Takes the bytes of a transfer from `offset` on, makes them durable, and returns how many are held durably. Where `offset` is not
    /// what is held (another connection sends the same file), nothing is taken.
    fn chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure>;

    /// Verifies and uses a whole transfer. Asked again after a cut, it answers as the first time. [`FailureCode::NO_TRANSFER`] where
    /// the bytes are not all here, [`FailureCode::WRONG_DIGEST`] where they are not what was announced (they are thrown away).
    fn commit(&self, begin: &Begin) -> Result<Committed, Failure>;

    /// Throws away what arrived of a transfer; nothing to do if there is none.
    fn abort(&self, digest: &Digest) -> Result<(), Failure>;

    /// What the device is doing. Texts longer than 256 bytes and lists longer than 16 are cut.
    fn status(&self) -> Result<Status, Failure>;

    /// All tasks, in any order.
    fn list(&self) -> Result<Vec<TaskSummary>, Failure>;

    /// Lets `task` answer from the next frame on.
    fn switch(&self, task: &str) -> Result<(), Failure>;

    /// Goes back to the adapter before.
    fn rollback(&self, task: &str) -> Result<(), Failure>;

    /// Goes back to the publisher's original.
    fn restore(&self, task: &str) -> Result<(), Failure>;

    /// Forgets a task.
    fn remove(&self, task: &str) -> Result<(), Failure>;

    /// Confirms what is on trial.
    fn mark_good(&self, task: &str) -> Result<(), Failure>;

    /// Takes back what is on trial, or else what was confirmed last.
    fn mark_bad(&self, task: &str) -> Result<(), Failure>;

    /// The file of a task, to be read by its digest.
    fn open(&self, task: &str, slot: Slot) -> Result<PullInfo, Failure>;

    /// Copies bytes of a file from `offset` on into `out`; returns how many, 0 at the end.
    fn read(&self, digest: &Digest, offset: u64, out: &mut [u8]) -> Result<usize, Failure>;

    /// Starts tuning.
    fn tune(&self, request: &TuneRequest) -> Result<(), Failure> {
        Err(Failure::new(
            FailureCode::UNSUPPORTED,
            format_args!("this device cannot tune '{}'", request.task),
        ))
    }

    /// How far tuning is.
    fn tune_status(&self) -> Result<TuneStatus, Failure> {
        Ok(TuneStatus::default())
    }

    /// Stops tuning; nothing to do if there is none.
    fn stop_tuning(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Opens enrolment: returns the code that lets one new host in, with these roles, within so many minutes.
    fn enrol(&self, roles: Roles, minutes: u32) -> Result<Enrolment, Failure> {
        let _ = (roles, minutes);
        Err(Failure::new(FailureCode::UNSUPPORTED, "this device enrols no hosts"))
    }

    /// The hosts that the device knows.
    fn hosts(&self) -> Result<Vec<HostEntry>, Failure> {
        Ok(Vec::new())
    }

    /// Forgets a host, named by its name or key, and ends its sessions.
    fn revoke(&self, host: &str) -> Result<(), Failure> {
        Err(Failure::new(FailureCode::NO_HOST, format_args!("no host '{host}'")))
    }

    /// Whether connections should end, because the device is going down.
    fn stopping(&self) -> bool {
        false
    }
}
