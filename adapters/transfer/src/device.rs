//! Device interface of the protocol, with one method per request.

use alloc::{string::String, vec::Vec};

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

/// A device, implemented on top of its store and engine. [`crate::Session`] calls it from any number of connections at
/// the same time.
///
/// A failed call changes nothing.
pub trait Device: Sync {
    /// Returns the device's name, software, backbone and capabilities.
    fn hello(&self) -> DeviceInfo;

    /// Starts or resumes a transfer. Returns the number of bytes that the device has; this is `length` if it has the
    /// complete file, and then [`Device::commit`] may follow immediately. An announcement is verified first. Without an
    /// announcement, nothing is written to the disk until [`Device::commit`] has verified the complete transfer.
    fn begin(&self, begin: &Begin) -> Result<u64, Failure>;

    /// Appends bytes to a transfer at `offset`, and returns the number of bytes that the device has. The bytes of an
    /// announced transfer are written durably. If `offset` differs from the number of bytes held, because another
    /// connection sends the same file, no bytes are appended.
    fn chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure>;

    /// Verifies and installs a complete transfer. A repeated call returns the same result. Fails with
    /// [`FailureCode::NO_TRANSFER`] if bytes are missing, and with [`FailureCode::WRONG_DIGEST`] if the bytes do not
    /// match the announced digest; these are discarded.
    fn commit(&self, begin: &Begin) -> Result<Committed, Failure>;

    /// Discards the received bytes of a transfer, if there are any.
    fn abort(&self, digest: &Digest) -> Result<(), Failure>;

    /// Returns the device's status. Texts longer than 256 bytes and lists longer than 16 are truncated.
    fn status(&self) -> Result<Status, Failure>;

    /// Lists all tasks, in any order.
    fn list(&self) -> Result<Vec<TaskSummary>, Failure>;

    /// Switches to `task` from the next frame on.
    fn switch(&self, task: &str) -> Result<(), Failure>;

    /// Switches to a group of tasks from the next frame on. The names have been checked by [`check_group`].
    ///
    /// [`check_group`]: crate::check_group
    fn switch_group(&self, tasks: &[&str]) -> Result<(), Failure> {
        let _ = tasks;
        Err(unsupported("classify with several tasks at a time"))
    }

    /// Returns the names of the selected tasks in their order, also of those without an adapter.
    fn selection(&self) -> Result<Vec<String>, Failure> {
        Err(unsupported("name the selected tasks"))
    }

    /// Rolls back to the previous adapter.
    fn rollback(&self, task: &str) -> Result<(), Failure>;

    /// Restores the publisher's original.
    fn restore(&self, task: &str) -> Result<(), Failure>;

    /// Removes a task.
    fn remove(&self, task: &str) -> Result<(), Failure>;

    /// Confirms the adapter on trial.
    fn mark_good(&self, task: &str) -> Result<(), Failure>;

    /// Reverts the adapter on trial, or the last confirmed one if there is no trial.
    fn mark_bad(&self, task: &str) -> Result<(), Failure>;

    /// Returns the digest and length of a task's file. [`Device::read`] then reads it by this digest.
    fn open(&self, task: &str, slot: Slot) -> Result<PullInfo, Failure>;

    /// Copies bytes of a file, from `offset` on, into `out`. Returns their number, which is 0 at the end of the file.
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

    /// Stops the tuning run, if there is one.
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

    /// Called for every failed request before the reply is sent, for counters and logs. `request` is the request's
    /// name.
    fn refused(&self, request: &'static str, failure: &Failure) {
        let _ = (request, failure);
    }

    /// Starts to teach a class from its stored images, unless that is already in progress.
    fn teach(&self, _task: &str, _label: &str) -> Result<(), Failure> {
        Err(unsupported("teach a class by name"))
    }

    /// Returns the state of teaching a class.
    fn teach_status(&self, _task: &str, _label: &str) -> Result<TeachStatus, Failure> {
        Err(unsupported("teach a class by name"))
    }

    /// Returns the limits on images of a task.
    fn teach_limits(&self, _task: &str) -> Result<TeachLimits, Failure> {
        Err(unsupported("report its limits for images"))
    }

    /// Lists the tasks with stored images, in any order.
    fn example_tasks(&self) -> Result<Vec<ExampleTask>, Failure> {
        Err(unsupported("list stored images"))
    }

    /// Lists the stored images of a task, in any order.
    fn examples(&self, _task: &str) -> Result<Vec<ExampleSummary>, Failure> {
        Err(unsupported("list stored images"))
    }

    /// Returns the length of a stored image. [`Device::read`] then reads it by its digest.
    fn open_example(&self, _task: &str, _id: &Digest) -> Result<PullInfo, Failure> {
        Err(unsupported("show stored images"))
    }

    /// Removes stored images of a task.
    fn remove_examples(&self, _task: &str, _selection: &ExampleSelection) -> Result<RemovedExamples, Failure> {
        Err(unsupported("remove stored images"))
    }

    /// Removes a class that was taught on the device, and its stored images.
    fn remove_class(&self, _task: &str, _label: &str) -> Result<RemovedExamples, Failure> {
        Err(unsupported("remove a class"))
    }

    /// Returns the forecast of a tuning run.
    fn tune_check(&self, _request: &TuneRequest) -> Result<TuneForecast, Failure> {
        Err(unsupported("report what tuning lacks"))
    }

    /// Opens enrolment of one new host with these roles for this number of minutes. Returns the code.
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

    /// Rotates the session key. The previous key authenticates the new one. With `drop_old`, keeps the current key and
    /// drops the previous one instead.
    fn rotate_key(&self, drop_old: bool) -> Result<KeyRotation, Failure> {
        let _ = drop_old;
        Err(unsupported("rotate its key"))
    }

    /// Returns whether connections should end because the device is shutting down.
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
