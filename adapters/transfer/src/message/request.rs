//! Requests of a host.
//!
//! The order of the variants is the wire format. New variants are appended, and none is ever removed.

use alloc::vec::Vec;

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

use super::{
    Begin, MAX_GROUP, MAX_LABEL, MAX_TASK, MessageFault, Slot, as_bytes,
    fault::{name, read},
};
use crate::{access::Roles, teaching::ExampleSelection, tuning::TuneRequest};

/// Maximum bytes of the names of a group, each with a separator.
const MAX_GROUP_BYTES: usize = MAX_GROUP * (MAX_TASK + 1);

/// A request, from the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Opens a session. Its encoding is the same in all protocol versions.
    Hello {
        /// The lowest supported version.
        min: u16,
        /// The highest supported version.
        max: u16,
        /// Maximum bytes of a chunk.
        chunk: u32,
        /// Name and version of the program.
        client: &'a str,
    },
    /// Starts or resumes a transfer.
    Begin(Begin),
    /// A piece of a transfer, at the offset up to which the device has the data.
    Chunk {
        /// The number in `Begun`.
        transfer: u32,
        /// The offset of the piece.
        offset: u64,
        /// The piece.
        #[serde(serialize_with = "as_bytes")]
        data: &'a [u8],
    },
    /// Verifies and installs a complete transfer. Idempotent.
    Commit(Begin),
    /// Discards the received bytes of a transfer.
    Abort {
        /// SHA-256 of the transfer's bytes.
        digest: Digest,
    },
    /// Reads the device's status.
    Status,
    /// Requests a page of the tasks, sorted by name.
    List {
        /// The last name of the previous page; `""` for the first page.
        after: &'a str,
        /// Approximate maximum bytes of the page.
        budget: u32,
    },
    /// Switches the task from the next frame on; with `auto`, the device selects the task.
    Switch {
        /// The task.
        task: &'a str,
    },
    /// Rolls back to the previous adapter.
    Rollback {
        /// The task.
        task: &'a str,
    },
    /// Restores the publisher's original.
    Restore {
        /// The task.
        task: &'a str,
    },
    /// Removes a task.
    Remove {
        /// The task.
        task: &'a str,
    },
    /// Confirms the adapter on trial.
    MarkGood {
        /// The task.
        task: &'a str,
    },
    /// Reverts the adapter on trial, or the last confirmed one if there is no trial.
    MarkBad {
        /// The task.
        task: &'a str,
    },
    /// Opens a file, which is then read by its digest.
    Open {
        /// The task.
        task: &'a str,
        /// The slot of the file.
        slot: Slot,
    },
    /// Reads bytes of a file.
    Read {
        /// Digest of the file.
        digest: Digest,
        /// The offset of the first byte.
        offset: u64,
        /// Maximum number of bytes.
        length: u32,
    },
    /// Starts tuning.
    Tune(TuneRequest),
    /// Reads the progress of tuning.
    TuneStatus,
    /// Stops tuning.
    StopTuning,
    /// Reads the device's health.
    Health,
    /// Starts to teach a class from its stored images.
    Teach {
        /// The task.
        task: &'a str,
        /// The class.
        label: &'a str,
    },
    /// Reads the state of teaching a class.
    TeachStatus {
        /// The task.
        task: &'a str,
        /// The class.
        label: &'a str,
    },
    /// Reads the limits on images of a task.
    TeachLimits {
        /// The task.
        task: &'a str,
    },
    /// Requests a page of the tasks with stored images, sorted by name.
    ExampleTasks {
        /// The last name of the previous page; `""` for the first page.
        after: &'a str,
        /// Approximate maximum bytes of the page.
        budget: u32,
    },
    /// Requests a page of a task's stored images, sorted by digest.
    Examples {
        /// The task.
        task: &'a str,
        /// The last digest of the page before.
        after: Option<Digest>,
        /// Approximate maximum bytes of the page.
        budget: u32,
    },
    /// Opens a stored image, which is then read by its digest.
    OpenExample {
        /// The task.
        task: &'a str,
        /// SHA-256 of the image.
        id: Digest,
    },
    /// Removes stored images.
    RemoveExamples {
        /// The task.
        task: &'a str,
        /// The selected images.
        selection: ExampleSelection,
    },
    /// Reads the forecast of a tuning run.
    TuneCheck(TuneRequest),
    /// Opens enrolment of one new host by a code.
    Enrol {
        /// Roles of the new host.
        roles: Roles,
        /// Validity of the code in minutes.
        minutes: u32,
    },
    /// Lists the known hosts.
    Hosts,
    /// Revokes a host and ends its sessions.
    Revoke {
        /// Name or key of the host.
        host: &'a str,
    },
    /// Rotates the device's session key, or drops the previous one.
    RotateKey {
        /// Keeps the current key and drops the previous one.
        drop_old: bool,
    },
    /// Switches to a group of tasks from the next frame on: every frame is classified by all of them.
    SwitchGroup {
        /// The names, separated by line feeds.
        tasks: &'a str,
    },
    /// Reads the names of the selected tasks.
    Selection,
    /// Removes a class that was taught on the device, and its stored images.
    RemoveClass {
        /// The task.
        task: &'a str,
        /// The class.
        label: &'a str,
    },
}

impl<'a> Request<'a> {
    /// Number of known kinds of requests.
    pub(super) const KINDS: u32 = 34;

    /// Parses a request. Texts and data borrow from `bytes`; anything copied is no larger than `bytes`.
    ///
    /// # Errors
    /// [`MessageFault`] if the bytes are not one complete request with all fields within their limits.
    pub fn read(bytes: &'a [u8]) -> Result<Self, MessageFault> {
        let request: Self = read(bytes, Self::KINDS)?;
        match &request {
            Self::Begin(begin) | Self::Commit(begin) => begin.check()?,
            Self::Switch { task }
            | Self::Rollback { task }
            | Self::Restore { task }
            | Self::Remove { task }
            | Self::MarkGood { task }
            | Self::MarkBad { task }
            | Self::Open { task, .. }
            | Self::TeachLimits { task }
            | Self::Examples { task, .. }
            | Self::OpenExample { task, .. } => name("task", task, MAX_TASK)?,
            Self::Teach { task, label } | Self::TeachStatus { task, label } | Self::RemoveClass { task, label } => {
                name("task", task, MAX_TASK)?;
                name("label", label, MAX_LABEL)?;
            }
            Self::RemoveExamples { task, selection } => {
                name("task", task, MAX_TASK)?;
                if let ExampleSelection::Label(label) = selection {
                    name("label", label, MAX_LABEL)?;
                }
            }
            Self::List { after, .. } | Self::ExampleTasks { after, .. } if !after.is_empty() => {
                name("task", after, MAX_TASK)?;
            }
            Self::Tune(tune) | Self::TuneCheck(tune) => name("task", &tune.task, MAX_TASK)?,
            Self::Revoke { host } => name("host", host, MAX_LABEL)?,
            Self::SwitchGroup { tasks } if tasks.len() > MAX_GROUP_BYTES => {
                let (what, cap, got) = ("bytes of the tasks' names", MAX_GROUP_BYTES as u64, tasks.len() as u64);
                return Err(MessageFault::TooLarge { what, cap, got });
            }
            Self::Hello { client, .. } if !client.is_empty() => name("client", client, MAX_LABEL)?,
            _ => {}
        }
        Ok(request)
    }

    /// Appends the request's bytes.
    pub(crate) fn write(&self, out: Vec<u8>) -> Option<Vec<u8>> {
        postcard::to_extend(self, out).ok()
    }

    /// Returns the request's name, for errors.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Begin(_) => "begin",
            Self::Chunk { .. } => "chunk",
            Self::Commit(_) => "commit",
            Self::Abort { .. } => "abort",
            Self::Status => "status",
            Self::List { .. } => "list",
            Self::Switch { .. } => "switch",
            Self::Rollback { .. } => "rollback",
            Self::Restore { .. } => "restore",
            Self::Remove { .. } => "remove",
            Self::MarkGood { .. } => "mark-good",
            Self::MarkBad { .. } => "mark-bad",
            Self::Open { .. } => "open",
            Self::Read { .. } => "read",
            Self::Tune(_) => "tune",
            Self::TuneStatus => "tune-status",
            Self::StopTuning => "stop-tuning",
            Self::Health => "health",
            Self::Teach { .. } => "teach",
            Self::TeachStatus { .. } => "teach-status",
            Self::TeachLimits { .. } => "teach-limits",
            Self::ExampleTasks { .. } => "example-tasks",
            Self::Examples { .. } => "examples",
            Self::OpenExample { .. } => "open-example",
            Self::RemoveExamples { .. } => "remove-examples",
            Self::TuneCheck(_) => "tune-check",
            Self::Enrol { .. } => "enrol",
            Self::Hosts => "hosts",
            Self::Revoke { .. } => "revoke",
            Self::RotateKey { .. } => "rotate-key",
            Self::SwitchGroup { .. } => "switch-group",
            Self::Selection => "selection",
            Self::RemoveClass { .. } => "remove-class",
        }
    }
}
