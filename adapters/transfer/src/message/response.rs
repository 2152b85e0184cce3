//! Replies of a device.
//!
//! The order of the variants is the wire format. New variants are appended, and none is ever removed.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{Committed, DeviceInfo, MessageFault, PullInfo, as_bytes, fault::read};
use crate::{
    access::{Enrolment, HostEntry, KeyRotation},
    failure::Failure,
    health::Health,
    status::{Status, TaskSummary},
    teaching::{ExampleSummary, ExampleTask, RemovedExamples, TeachLimits, TeachStatus, TuneForecast},
    tuning::TuneStatus,
};

/// A reply, from the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Response<'a> {
    /// A damaged frame arrived and has to be sent again. This is not a reply to any particular request.
    Damaged,
    /// The request failed. The encoding is the same in all protocol versions.
    Failed(Failure),
    /// The session is open. The encoding is the same in all protocol versions.
    Welcome {
        /// The version of the session.
        version: u16,
        /// Maximum bytes of a chunk in both directions.
        chunk: u32,
        /// The device.
        device: DeviceInfo,
    },
    /// The transfer is open.
    Begun {
        /// Number of the transfer in this session.
        transfer: u32,
        /// Number of bytes held.
        held: u64,
    },
    /// The number of bytes held now.
    Held {
        /// Number of bytes held.
        held: u64,
    },
    /// The transfer was verified, and its content is in use.
    Committed(Committed),
    /// The request was carried out, and there is nothing to return.
    Done,
    /// The device's status.
    Status(Box<Status>),
    /// A page of tasks.
    Tasks {
        /// The tasks, in the order of their names.
        tasks: Vec<TaskSummary>,
        /// Whether further pages follow.
        more: bool,
    },
    /// The requested file.
    Opened(PullInfo),
    /// Bytes of a file.
    Data {
        /// The offset of the first byte.
        offset: u64,
        /// The bytes; empty at the end.
        #[serde(serialize_with = "as_bytes")]
        data: &'a [u8],
    },
    /// The progress of tuning.
    Tuning(TuneStatus),
    /// The health of the device.
    Health(Health),
    /// The state of teaching a class.
    Teaching(TeachStatus),
    /// The limits on images.
    TeachLimits(TeachLimits),
    /// A page of the tasks with images.
    ExampleTasks {
        /// The tasks, in the order of their names.
        tasks: Vec<ExampleTask>,
        /// Whether further pages follow.
        more: bool,
    },
    /// A page of a task's images.
    Examples {
        /// The images, in the order of their digests.
        examples: Vec<ExampleSummary>,
        /// Whether further pages follow.
        more: bool,
    },
    /// Images were removed.
    Removed(RemovedExamples),
    /// The forecast of a tuning run.
    Forecast(TuneForecast),
    /// Enrolment is open.
    Enrolment(Enrolment),
    /// The known hosts.
    Hosts(Vec<HostEntry>),
    /// The keys of the device's sessions.
    Rotated(KeyRotation),
    /// The names of the selected tasks, in their order.
    Selection(Vec<String>),
}

impl<'a> Response<'a> {
    /// Number of known kinds of replies.
    pub(super) const KINDS: u32 = 23;

    /// Parses a reply.
    ///
    /// # Errors
    /// [`MessageFault`] if the bytes are not one complete reply.
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
    use crate::message::{Request, fault::variant};

    #[test]
    fn the_number_of_message_kinds_is_correct() {
        let (task, label) = ("birds", "robin");
        let last = Request::RemoveClass { task, label }.write(Vec::new()).unwrap();
        assert_eq!(variant(&last), Some(Request::KINDS - 1));
        let last = Response::Selection(Vec::new()).write(Vec::new()).unwrap();
        assert_eq!(variant(&last), Some(Response::KINDS - 1));
    }

    #[test]
    fn an_unknown_kind_is_distinguished_from_a_damaged_message() {
        assert_eq!(Request::read(&[34]), Err(MessageFault::Unknown { kind: 34 }));
        assert_eq!(Request::read(&[4, 1]), Err(MessageFault::Unreadable));
        assert_eq!(Request::read(&[5, 0]), Err(MessageFault::Rest { left: 1 }));
        assert_eq!(Request::read(&[]), Err(MessageFault::Unreadable));
        assert_eq!(Request::read(&[7, 0]), Err(MessageFault::Empty { what: "task" }));
    }
}
