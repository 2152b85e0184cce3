//! Device side of a session on one connection. It does no I/O itself: it takes frames and returns replies.

mod limits;
mod requests;
mod transfers;

use alloc::vec::Vec;
use core::ops::RangeInclusive;

pub use limits::SessionLimits;
use transfers::Transfers;

use crate::{
    device::Device,
    failure::{Failure, FailureCode},
    frame::{Direction, Head, MAX_BODY, encode_frame},
    message::{MAX_CHUNK, MIN_CHUNK, Request, Response, VERSIONS},
};

/// The agreement of `Hello`.
#[derive(Clone, Copy, Debug)]
struct Settled {
    session: u32,
    chunk: u32,
}

/// The kind of a reply. The bytes of `Data` are stored in the session.
enum Reply {
    Message(Response<'static>),
    Data { offset: u64, length: usize },
}

/// Handler of frames.
pub(crate) trait Frames {
    /// Handles the body of a frame. Returns the frame to send, if any.
    fn handle(&mut self, body: &[u8]) -> Option<&[u8]>;
    /// Returns the frame that asks for a repetition after a damaged one.
    fn damaged(&mut self) -> &[u8];
    /// Returns whether a session is open.
    fn is_open(&self) -> bool;
}

/// State of a session: the agreed parameters, the open transfers, and the last reply. The last reply is sent again if
/// its request is repeated.
pub struct Session<'d> {
    device: &'d dyn Device,
    limits: SessionLimits,
    versions: RangeInclusive<u16>,
    /// Maximum bytes of a body.
    largest: usize,
    settled: Option<Settled>,
    /// The last request carried out.
    last: u32,
    transfers: Transfers,
    data: Vec<u8>,
    /// The body of the last reply.
    reply: Vec<u8>,
    /// The body of a message that is not a reply to a request of this session.
    unsolicited: Vec<u8>,
    frame: Vec<u8>,
}

/// The body of a session to be sent.
#[derive(Clone, Copy)]
enum Due {
    Reply,
    Unsolicited,
}

impl<'d> Session<'d> {
    /// Creates a session, which waits for `Hello`.
    pub fn new(device: &'d dyn Device, limits: SessionLimits) -> Self {
        Self {
            device,
            limits: SessionLimits {
                chunk: limits.chunk.clamp(MIN_CHUNK, MAX_CHUNK),
                ..limits
            },
            versions: VERSIONS,
            largest: MAX_BODY,
            settled: None,
            last: 0,
            transfers: Transfers::default(),
            frame: Vec::new(),
            data: Vec::new(),
            reply: Vec::new(),
            unsolicited: Vec::new(),
        }
    }

    /// Creates a session of one version of the protocol, with bodies of at most `largest` bytes.
    #[cfg(feature = "secure")]
    pub(crate) fn of_version(version: u16, largest: usize, device: &'d dyn Device, limits: SessionLimits) -> Self {
        Self {
            versions: version..=version,
            largest,
            ..Self::new(device, limits)
        }
    }

    /// Returns whether the host has sent its hello.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// Handles the body of a frame. Returns the frame to send, if any.
    pub fn handle(&mut self, body: &[u8]) -> Option<&[u8]> {
        let due = self.process(body)?;
        Some(self.framed(due))
    }

    /// Handles a body. Returns the body to send, if any.
    #[cfg(feature = "secure")]
    pub(crate) fn handle_body(&mut self, body: &[u8]) -> Option<&[u8]> {
        Some(match self.process(body)? {
            Due::Reply => &self.reply,
            Due::Unsolicited => &self.unsolicited,
        })
    }

    /// Returns the frame that refuses a request without parsing it.
    #[cfg(feature = "secure")]
    pub(crate) fn refuse(&mut self, head: Head, failure: Failure) -> &[u8] {
        let due = self.unsolicited(head, &Response::Failed(failure));
        self.framed(due)
    }

    fn framed(&mut self, due: Due) -> &[u8] {
        let body = match due {
            Due::Reply => &mut self.reply,
            Due::Unsolicited => &mut self.unsolicited,
        };
        self.frame.clear();
        encode_frame(body, &mut self.frame);
        &self.frame
    }

    fn process(&mut self, body: &[u8]) -> Option<Due> {
        let (head, message) = Head::split(body)?;
        if head.direction != Direction::Request {
            return None;
        }
        let request = Request::read(message);
        let known = self.settled.is_some_and(|settled| settled.session == head.session);
        if known && head.sequence == self.last {
            return Some(Due::Reply);
        }
        if known && head.sequence < self.last {
            return None;
        }
        let asked = request.as_ref().map_or("unreadable", Request::name);
        let outcome = match request {
            Ok(Request::Hello { min, max, chunk, .. }) => self.hello(head.session, min..=max, chunk),
            _ if !known => {
                let failure = Failure::new(
                    FailureCode::SESSION,
                    "this connection has no such session\nhint: it begins with a hello",
                );
                return Some(self.unsolicited(head, &Response::Failed(failure)));
            }
            Ok(request) => self.carry_out(request),
            Err(fault) => Err(fault.into()),
        };
        if let Err(failure) = &outcome {
            self.device.refused(asked, failure);
        }
        self.last = head.sequence;
        let reply = Head {
            direction: Direction::Reply,
            ..head
        };
        self.write_reply(reply, outcome);
        Some(Due::Reply)
    }

    /// Returns the frame that asks for a repetition after a damaged one.
    pub fn damaged(&mut self) -> &[u8] {
        let head = Head {
            direction: Direction::Reply,
            session: self.settled.map_or(0, |settled| settled.session),
            sequence: 0,
        };
        let due = self.unsolicited(head, &Response::Damaged);
        self.framed(due)
    }

    fn unsolicited(&mut self, head: Head, response: &Response<'_>) -> Due {
        let head = Head {
            direction: Direction::Reply,
            ..head
        };
        pack(head, response, self.largest, &mut self.unsolicited);
        Due::Unsolicited
    }

    fn write_reply(&mut self, head: Head, outcome: Result<Reply, Failure>) {
        let data = core::mem::take(&mut self.data);
        let response = match outcome {
            Ok(Reply::Message(response)) => response,
            Ok(Reply::Data { offset, length }) => Response::Data {
                offset,
                data: &data[..length],
            },
            Err(failure) => Response::Failed(failure),
        };
        if !pack(head, &response, self.largest, &mut self.reply) {
            let failure = Failure::new(FailureCode::TOO_LARGE, "the reply does not fit a frame");
            pack(head, &Response::Failed(failure), self.largest, &mut self.reply);
        }
        self.data = data;
    }

    fn hello(&mut self, session: u32, spoken: RangeInclusive<u16>, chunk: u32) -> Result<Reply, Failure> {
        (self.settled, self.transfers) = (None, Transfers::default());
        let version = *spoken.end().min(self.versions.end());
        if !(spoken.contains(&version) && self.versions.contains(&version)) {
            let (min, max) = spoken.into_inner();
            let (from, to) = self.versions.clone().into_inner();
            let older = if max < from { "host" } else { "device" };
            return Err(Failure::new(
                FailureCode::VERSION,
                format_args!(
                    "no protocol version in common: the host speaks {min} to {max}, the device {from} to {to}\nhint: update the {older}"
                ),
            ));
        }
        let chunk = chunk.clamp(MIN_CHUNK, self.limits.chunk);
        self.settled = Some(Settled { session, chunk });
        Ok(Reply::Message(Response::Welcome {
            version,
            chunk,
            device: self.device.hello(),
        }))
    }
}

impl Frames for Session<'_> {
    fn handle(&mut self, body: &[u8]) -> Option<&[u8]> {
        self.handle(body)
    }

    fn damaged(&mut self) -> &[u8] {
        self.damaged()
    }

    fn is_open(&self) -> bool {
        self.is_settled()
    }
}

impl core::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("settled", &self.settled)
            .field("last", &self.last)
            .field("transfers", &self.transfers)
            .finish_non_exhaustive()
    }
}

/// Writes a message into the body of a frame. Returns `false` if it does not fit.
fn pack(head: Head, response: &Response<'_>, largest: usize, body: &mut Vec<u8>) -> bool {
    body.clear();
    head.write(body);
    let Some(written) = response.write(core::mem::take(body)) else {
        return false;
    };
    *body = written;
    body.len() <= largest
}
