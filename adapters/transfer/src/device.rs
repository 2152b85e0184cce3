//! What a device does when it is asked.

use alloc::vec::Vec;

use clr_adapters::Digest;

use crate::{
    access::{Enrolment, HostEntry, KeyRotation, Roles},
    failure::{Failure, FailureCode},
    health::Health,
    message::{Begin, Committed, DeviceInfo, PullInfo, Slot},
    status::{Status, TaskSummary},
    teaching::{
        ExampleSelection, ExampleSummary, ExampleTask, RemovedExamples, TeachLimits, TeachStatus, TuneForecast,
    },
    tuning::{TuneRequest, TuneStatus},
};

/// A device, as the protocol sees it: implemented on top of its store and engine, called by [`crate::Session`] from any
/// number of connections at once.
///
/// A failed call leaves everything as it was.
pub trait Device: Sync {
    /// Who the device is.
    fn hello(&self) -> DeviceInfo;

    /// Starts or resumes a transfer; returns how many of its bytes are held: `length` if all of it is here already, so
    /// that [`Device::commit`] may follow at once. An announcement is verified first; without one, nothing is written to
    /// the disk before [`Device::commit`] has verified all of it.
    fn begin(&self, begin: &Begin) -> Result<u64, Failure>;

    /// Takes the bytes of a transfer from `offset` on, makes them durable if they were announced, and returns how many are held. Where `offset` is not
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

    /// Whether the device is well.
    fn health(&self) -> Result<Health, Failure> {
        Err(Failure::new(
            FailureCode::UNSUPPORTED,
            "this device does not report its health",
        ))
    }

    /// Called for every request that fails, with its name, before the reply is sent: for counters and logs.
    fn refused(&self, request: &'static str, failure: &Failure) {
        let _ = (request, failure);
    }

    /// Starts teaching a class by the images filed for it; nothing to do while that very class is being taught.
    fn teach(&self, _task: &str, _label: &str) -> Result<(), Failure> {
        Err(unsupported("teach a class by name"))
    }

    /// How teaching a class went.
    fn teach_status(&self, _task: &str, _label: &str) -> Result<TeachStatus, Failure> {
        Err(unsupported("teach a class by name"))
    }

    /// What is taken as an image of a task.
    fn teach_limits(&self, _task: &str) -> Result<TeachLimits, Failure> {
        Err(unsupported("tell its limits for images"))
    }

    /// The tasks that images are stored for, in any order.
    fn example_tasks(&self) -> Result<Vec<ExampleTask>, Failure> {
        Err(unsupported("list stored images"))
    }

    /// The stored images of a task, in any order.
    fn examples(&self, _task: &str) -> Result<Vec<ExampleSummary>, Failure> {
        Err(unsupported("list stored images"))
    }

    /// A stored image, to be read by its digest.
    fn open_example(&self, _task: &str, _id: &Digest) -> Result<PullInfo, Failure> {
        Err(unsupported("show stored images"))
    }

    /// Removes stored images of a task.
    fn remove_examples(&self, _task: &str, _selection: &ExampleSelection) -> Result<RemovedExamples, Failure> {
        Err(unsupported("remove stored images"))
    }

    /// What tuning would lack to be promoted.
    fn tune_check(&self, _request: &TuneRequest) -> Result<TuneForecast, Failure> {
        Err(unsupported("tell what tuning lacks"))
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

    /// Makes a new key of sessions, which the one before vouches for; with `drop_old`, makes none and no longer answers the one before.
    fn rotate_key(&self, drop_old: bool) -> Result<KeyRotation, Failure> {
        let _ = drop_old;
        Err(unsupported("rotate its key"))
    }

    /// Whether connections should end, because the device is going down.
    fn stopping(&self) -> bool {
        false
    }
}

fn unsupported(what: &str) -> Failure {
    Failure::new(
        FailureCode::UNSUPPORTED,
        format_args!("this device cannot {what}\nhint: update the device"),
    )
}
