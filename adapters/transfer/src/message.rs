//! The messages, both ways, and how they are read: every size capped, nothing left over behind them.
//!
//! The order of the variants is the wire format (postcard numbers them from 0): new ones go to the end, none is taken out.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::ops::RangeInclusive;

use clr_adapters::Digest;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    failure::Failure,
    status::{Status, TaskSummary},
    tuning::{TuneRequest, TuneStatus},
};

/// Protocol versions that this crate speaks.
pub const VERSIONS: RangeInclusive<u16> = 1..=1;
/// The largest chunk in bytes.
pub const MAX_CHUNK: u32 = 64 << 10;
/// The smallest chunk in bytes; a noisy line brings chunks down to this.
pub const MIN_CHUNK: u32 = 64;
/// UTF-8 bytes of a task's name.
pub const MAX_TASK: usize = 128;
/// UTF-8 bytes of a label.
pub const MAX_LABEL: usize = 256;

/// What is being sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// A whole adapter file.
    Adapter,
    /// A difference that turns a file which the device has into an adapter file.
    Delta {
        /// The file that the device has.
        base: Digest,
        /// The file that comes out.
        target: Digest,
        /// Its length in bytes.
        length: u64,
    },
    /// A picture to learn from, as a PNG or JPEG file.
    Example {
        /// The task.
        task: String,
        /// What the picture shows.
        label: String,
    },
}

/// What a transfer is about: the bytes on their way, by digest and length, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// SHA-256 of the bytes that are sent.
    pub digest: Digest,
    /// How many.
    pub length: u64,
    /// What they are.
    pub kind: Kind,
}

/// Which of a task's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Slot {
    /// The one that answers: on trial if there is one, else confirmed.
    #[default]
    Serving,
    /// The confirmed one.
    Confirmed,
    /// The one on trial.
    OnTrial,
    /// The one confirmed before.
    LastGood,
    /// The publisher's original of what the device tuned.
    Original,
}

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
}

/// A reply, from the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Response<'a> {
    /// A frame arrived that could not be read; send it again. Belongs to no request.
    Damaged,
    /// Not done. Its form is the same in every version.
    Failed(Failure),
    /// The session is open. Its form is the same in every version.
    Welcome {
        /// The version that both speak from here on.
        version: u16,
        /// The largest chunk, in bytes, for both.
        chunk: u32,
        /// The device.
        device: DeviceInfo,
    },
    /// The transfer is open.
    Begun {
        /// Its number in this session.
        transfer: u32,
        /// How many bytes the device holds durably.
        held: u64,
    },
    /// How many bytes the device holds durably now.
    Held {
        /// That many.
        held: u64,
    },
    /// Verified and in use.
    Committed(Committed),
    /// Done.
    Done,
    /// What the device is doing.
    Status(Box<Status>),
    /// A page of tasks.
    Tasks {
        /// The tasks, in the order of their names.
        tasks: Vec<TaskSummary>,
        /// Whether there are more.
        more: bool,
    },
    /// The file that was asked for.
    Opened(PullInfo),
    /// Bytes of it.
    Data {
        /// From where.
        offset: u64,
        /// The bytes; none behind the end.
        #[serde(serialize_with = "as_bytes")]
        data: &'a [u8],
    },
    /// How far tuning is.
    Tuning(TuneStatus),
}

/// What a transfer led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Committed {
    /// An adapter was installed (or was there already).
    Adapter {
        /// Its task.
        task: String,
        /// Its version.
        version: u64,
        /// The file that was installed.
        #[serde(with = "crate::digest_text")]
        digest: Digest,
        /// How many frames it has to serve on trial; 0 if it is confirmed.
        trial_frames: u32,
    },
    /// A picture was filed.
    Example {
        /// Its task.
        task: String,
        /// Its label.
        label: String,
        /// Whether it was there already.
        duplicate: bool,
    },
}

/// A file of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullInfo {
    /// Its SHA-256.
    #[serde(with = "crate::digest_text")]
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// What a device can do beyond holding adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// It takes differences.
    pub delta: bool,
    /// It takes pictures to learn from.
    pub examples: bool,
    /// It can tune.
    pub tuning: bool,
}

/// A device's answer to `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its name.
    pub device: String,
    /// Version of its software.
    pub software: String,
    /// The backbone that it runs.
    #[serde(with = "crate::digest_text")]
    pub backbone: Digest,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// Why a message cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageFault {
    /// Cut, or a field that is not what it should be.
    #[error("the message cannot be read")]
    Unreadable,
    /// A kind of message that this version does not know.
    #[error("message kind {kind} is unknown\nhint: the other end is newer; update this one")]
    Unknown {
        /// Its number.
        kind: u32,
    },
    /// Bytes behind the message.
    #[error("{left} bytes left over behind the message")]
    Rest {
        /// How many.
        left: usize,
    },
    /// A field beyond its cap.
    #[error("{what}: {got}, at most {cap} allowed")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// The cap.
        cap: u64,
        /// The size.
        got: u64,
    },
    /// A name without characters.
    #[error("the {what} is empty")]
    Empty {
        /// Which.
        what: &'static str,
    },
}

fn as_bytes<S: Serializer>(data: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(data)
}

/// The number of the variant that `bytes` start with, in postcard's LEB128.
fn variant(bytes: &[u8]) -> Option<u32> {
    postcard::take_from_bytes::<u32>(bytes).ok().map(|(kind, _)| kind)
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], known: u32) -> Result<T, MessageFault> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(MessageFault::Rest { left: rest.len() }),
        Err(_) => Err(match variant(bytes) {
            Some(kind) if kind >= known => MessageFault::Unknown { kind },
            _ => MessageFault::Unreadable,
        }),
    }
}

fn name(what: &'static str, text: &str, cap: usize) -> Result<(), MessageFault> {
    if text.is_empty() {
        return Err(MessageFault::Empty { what });
    }
    if text.len() > cap {
        let (cap, got) = (cap as u64, text.len() as u64);
        return Err(MessageFault::TooLarge { what, cap, got });
    }
    Ok(())
}

impl<'a> Request<'a> {
    /// Kinds of requests known here.
    const KINDS: u32 = 18;

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
            | Self::Open { task, .. } => name("task", task, MAX_TASK)?,
            Self::List { after, .. } if !after.is_empty() => name("task", after, MAX_TASK)?,
            Self::Tune(tune) => name("task", &tune.task, MAX_TASK)?,
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
        }
    }
}

impl Begin {
    fn check(&self) -> Result<(), MessageFault> {
        if let Kind::Example { task, label } = &self.kind {
            name("task", task, MAX_TASK)?;
            name("label", label, MAX_LABEL)?;
        }
        Ok(())
    }
}

impl<'a> Response<'a> {
    /// Kinds of replies known here.
    const KINDS: u32 = 12;

    /// Reads a reply.
    ///
    /// # Errors
    /// [`MessageFault`] for anything but one whole reply.
    pub fn read(bytes: &'a [u8]) -> Result<Self, MessageFault> {
        read(bytes, Self::KINDS)
    }

    /// Appends the reply's bytes.
    pub(crate) fn write(&self, out: Vec<u8>) -> Option<Vec<u8>> {
        postcard::to_extend(self, out).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_counted_right() {
        let last = Request::StopTuning.write(Vec::new()).unwrap();
        assert_eq!(variant(&last), Some(Request::KINDS - 1));
        let last = Response::Tuning(TuneStatus::default()).write(Vec::new()).unwrap();
        assert_eq!(variant(&last), Some(Response::KINDS - 1));
    }

    #[test]
    fn an_unknown_kind_is_told_from_a_damaged_message() {
        assert_eq!(Request::read(&[18]), Err(MessageFault::Unknown { kind: 18 }));
        assert_eq!(Request::read(&[4, 1]), Err(MessageFault::Unreadable));
        assert_eq!(Request::read(&[5, 0]), Err(MessageFault::Rest { left: 1 }));
        assert_eq!(Request::read(&[]), Err(MessageFault::Unreadable));
        assert_eq!(Request::read(&[7, 0]), Err(MessageFault::Empty { what: "task" }));
    }
}
