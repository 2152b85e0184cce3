//! The device interface of the protocol: one method per request.

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

/// A device, implemented on top of its store and engine, and called by [`crate::Session`] from any number of
/// connections at the same time.
///
/// A failed call changes nothing.
pub trait Device: Sync {
    /// Returns the device's name, software, backbone and capabilities.
    fn hello(&self) -> DeviceInfo;

    /// Starts or resumes a transfer. Returns the number of bytes held: `length` if the device has the complete file, so
    /// that [`Device::commit`] may follow at once. An announcement is verified first; without one, nothing is written
    /// to the disk before [`Device::commit`] has verified all of it.
    fn begin(&self, begin: &Begin) -> Result<u64, Failure>;

    /// Appends bytes of a transfer at `offset`, durably if announced, and returns the number of bytes held. Takes
    /// nothing where `offset` differs from that number, because another connection sends the same file.
    fn chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure>;

    /// Verifies and installs a complete transfer. A repetition returns the same result. [`FailureCode::NO_TRANSFER`]
    /// where bytes are missing, [`FailureCode::WRONG_DIGEST`] where they do not match the announced digest (they are
    /// discarded).
    fn commit(&self, begin: &Begin) -> Result<Committed, Failure>;

    /// Discards the received bytes of a transfer, if there are any.
    fn abort(&self, digest: &Digest) -> Result<(), Failure>;

    /// Returns the device's status. Texts longer than 256 bytes and lists longer than 16 are truncated.
    fn status(&self) -> Result<Status, Failure>;

    /// Lists all tasks, in any order.
    fn list(&self) -> Result<Vec<TaskSummary>, Failure>;

    /// Switches to `task` from the next frame on.
    fn switch(&self, task: &str) -> Result<(), Failure>;

    /// Rolls back to the previous adapter.
    fn rollback(&self, task: &str) -> Result<(), Failure>;

    /// Restores the publisher's original.
    fn restore(&self, task: &str) -> Result<(), Failure>;

    /// Removes a task.
    fn remove(&self, task: &str) -> Result<(), Failure>;

    /// Confirms the adapter on trial.
    fn mark_good(&self, task: &str) -> Result<(), Failure>;

    /// Reverts the adapter on trial, or else the one confirmed last.
    fn mark_bad(&self, task: &str) -> Result<(), Failure>;

    /// Returns the digest and length of a task's file, which is then read by its digest.
    fn open(&self, task: &str, slot: Slot) -> Result<PullInfo, Failure>;

    /// Copies bytes of a file from `offset` on into `out`. Returns their number, 0 at the end.
    fn read(&self, digest: &Digest, offset: u64, out: &mut [u8]) -> Result<usize, Failure>;

    /// Starts tuning.
    fn tune(&self, request: &TuneRequest) -> Result<(), Failure> {
        Err(Failure::new(
            FailureCode::UNSUPPORTED,
            format_args!("this device cannot tune '{}'", request.task),
        ))
    }

    /// Returns the progress of tuning.
    fn tune_status(&self) -> Result<TuneStatus, Failure> {
        Ok(TuneStatus::default())
    }

    /// Stops tuning, if it runs.
    fn stop_tuning(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Returns the device's health.
    fn health(&self) -> Result<Health, Failure> {
        Err(Failure::new(
            FailureCode::UNSUPPORTED,
            "this device does not report its health",
        ))
    }

    /// Called for every failed request, with its name, before the reply is sent: for counters and logs.
    fn refused(&self, request: &'static str, failure: &Failure) {
        let _ = (request, failure);
    }

    /// Starts teaching a class from its stored images, unless the same class is being taught.
    fn teach(&self, _task: &str, _label: &str) -> Result<(), Failure> {
        Err(unsupported("teach a class by name"))
    }

    /// Returns the state of teaching a class.
    fn teach_status(&self, _task: &str, _label: &str) -> Result<TeachStatus, Failure> {
        Err(unsupported("teach a class by name"))
    }

    /// Returns the limits on images of a task.
    fn teach_limits(&self, _task: &str) -> Result<TeachLimits, Failure> {
        Err(unsupported("tell its limits for images"))
    }

    /// Lists the tasks with stored images, in any order.
    fn example_tasks(&self) -> Result<Vec<ExampleTask>, Failure> {
        Err(unsupported("list stored images"))
    }

    /// Lists the stored images of a task, in any order.
    fn examples(&self, _task: &str) -> Result<Vec<ExampleSummary>, Failure> {
        Err(unsupported("list stored images"))
    }

    /// Returns the length of a stored image, which is then read by its digest.
    fn open_example(&self, _task: &str, _id: &Digest) -> Result<PullInfo, Failure> {
        Err(unsupported("show stored images"))
    }

    /// Removes stored images of a task.
    fn remove_examples(&self, _task: &str, _selection: &ExampleSelection) -> Result<RemovedExamples, Failure> {
        Err(unsupported("remove stored images"))
    }

    /// Returns the forecast of a tuning run.
    fn tune_check(&self, _request: &TuneRequest) -> Result<TuneForecast, Failure> {
        Err(unsupported("tell what tuning lacks"))
    }

    /// Opens enrolment of one new host with these roles, for this many minutes. Returns the code.
    fn enrol(&self, roles: Roles, minutes: u32) -> Result<Enrolment, Failure> {
        let _ = (roles, minutes);
        Err(Failure::new(FailureCode::UNSUPPORTED, "this device enrols no hosts"))
    }

    /// Lists the known hosts.
    fn hosts(&self) -> Result<Vec<HostEntry>, Failure> {
        Ok(Vec::new())
    }

    /// Revokes a host, given by its name or key, and ends its sessions.
    fn revoke(&self, host: &str) -> Result<(), Failure> {
        Err(Failure::new(FailureCode::NO_HOST, format_args!("no host '{host}'")))
    }

    /// Rotates the session key; the previous one authenticates the new one. With `drop_old`, makes no new key and drops
    /// the previous one.
    fn rotate_key(&self, drop_old: bool) -> Result<KeyRotation, Failure> {
        let _ = drop_old;
        Err(unsupported("rotate its key"))
    }

    /// Returns whether connections should end, because the device shuts down.
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
