//! What a host asks. The order of the variants is the wire format: new ones go to the end, none is taken out.

use alloc::vec::Vec;

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

use super::{
    Begin, MAX_LABEL, MAX_TASK, MessageFault, Slot, as_bytes,
    fault::{name, read},
};
use crate::{access::Roles, teaching::ExampleSelection, tuning::TuneRequest};

/// A request, from the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Opens a session. Its form is the same in every version.
    Hello {
        /// The lowest version spoken.
        min: u16,
        /// The highest.
        max: u16,
        /// The largest chunk wanted, in bytes.
        chunk: u32,
        /// Name and version of the program.
        client: &'a str,
    },
    /// Starts or resumes a transfer.
    Begin(Begin),
    /// A piece of a transfer, at the offset that the device holds.
    Chunk {
        /// The number that `Begun` gave.
        transfer: u32,
        /// Where the piece stands.
        offset: u64,
        /// The piece.
        #[serde(serialize_with = "as_bytes")]
        data: &'a [u8],
    },
    /// All is there: verify and use it. Asking twice does it once.
    Commit(Begin),
    /// Throws away what arrived of a transfer.
    Abort {
        /// SHA-256 of the bytes that were being sent.
        digest: Digest,
    },
    /// What is the device doing?
    Status,
    /// A page of the tasks, in the order of their names.
    List {
        /// The last name of the page before; `""` for the first page.
        after: &'a str,
        /// About how many bytes the page may take.
        budget: u32,
    },
    /// From the next frame on, this task answers; `auto` lets the device choose.
    Switch {
        /// The task.
        task: &'a str,
    },
    /// Back to the adapter before.
    Rollback {
        /// The task.
        task: &'a str,
    },
    /// Back to the publisher's original.
    Restore {
        /// The task.
        task: &'a str,
    },
    /// Forgets a task.
    Remove {
        /// The task.
        task: &'a str,
    },
    /// Confirms what is on trial.
    MarkGood {
        /// The task.
        task: &'a str,
    },
    /// Takes back what is on trial, or else what was confirmed last.
    MarkBad {
        /// The task.
        task: &'a str,
    },
    /// Which file is that, to read it?
    Open {
        /// The task.
        task: &'a str,
        /// Which of its files.
        slot: Slot,
    },
    /// Bytes of a file.
    Read {
        /// The file.
        digest: Digest,
        /// From where.
        offset: u64,
        /// At most how many.
        length: u32,
    },
    /// Learn.
    Tune(TuneRequest),
    /// How far is tuning?
    TuneStatus,
    /// Stop tuning.
    StopTuning,
    /// Is the device well?
    Health,
    /// Let a class answer by the images filed for it.
    Teach {
        /// The task.
        task: &'a str,
        /// The class.
        label: &'a str,
    },
    /// How did teaching a class go?
    TeachStatus {
        /// The task.
        task: &'a str,
        /// The class.
        label: &'a str,
    },
    /// What is taken as an image of a task?
    TeachLimits {
        /// The task.
        task: &'a str,
    },
    /// A page of the tasks that images are stored for, in the order of their names.
    ExampleTasks {
        /// The last name of the page before; `""` for the first page.
        after: &'a str,
        /// About how many bytes the page may take.
        budget: u32,
    },
    /// A page of a task's stored images, in the order of their digests.
    Examples {
        /// The task.
        task: &'a str,
        /// The last digest of the page before.
        after: Option<Digest>,
        /// About how many bytes the page may take.
        budget: u32,
    },
    /// Opens a stored image, to read it by its digest.
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
        /// Which.
        selection: ExampleSelection,
    },
    /// What would tuning lack to be promoted?
    TuneCheck(TuneRequest),
    /// Let one new host in, by a code.
    Enrol {
        /// Its roles.
        roles: Roles,
        /// How long the code holds.
        minutes: u32,
    },
    /// Which hosts are known?
    Hosts,
    /// Forget a host and end its sessions.
    Revoke {
        /// Its name or key.
        host: &'a str,
    },
    /// Make a new key of the device's sessions, or drop the one before it.
    RotateKey {
        /// Make none, and no longer answer the key before.
        drop_old: bool,
    },
}

impl<'a> Request<'a> {
    /// Kinds of requests known here.
    pub(super) const KINDS: u32 = 31;

    /// Reads a request. Texts and data borrow from `bytes`; what is copied is no larger than they are.
    ///
    /// # Errors
    /// [`MessageFault`] for anything but one whole request whose fields are under their caps.
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
            Self::Teach { task, label } | Self::TeachStatus { task, label } => {
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
            Self::Hello { client, .. } if !client.is_empty() => name("client", client, MAX_LABEL)?,
            _ => {}
        }
        Ok(request)
    }

    /// Appends the request's bytes.
    pub(crate) fn write(&self, out: Vec<u8>) -> Option<Vec<u8>> {
        postcard::to_extend(self, out).ok()
    }

    /// The request's name, for errors.
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
        }
    }
}
