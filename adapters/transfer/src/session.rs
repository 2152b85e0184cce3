//! Device side of a session on one connection. It does no I/O itself: it takes frames and returns replies.

use alloc::{borrow::ToOwned, boxed::Box, vec, vec::Vec};
use core::ops::RangeInclusive;

use crate::{
    access::clip_hosts,
    device::Device,
    failure::{Failure, FailureCode},
    frame::{Direction, Head, MAX_BODY, encode_frame},
    group,
    message::{Begin, MAX_CHUNK, MAX_GROUP, MIN_CHUNK, MessageFault, Request, Response, VERSIONS},
    status::TaskSummary,
};

/// Limits of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionLimits {
    /// Maximum bytes of a chunk in both directions, 64 to 65,536.
    pub chunk: u32,
    /// Maximum bytes of a transfer, and of the file that a delta produces.
    pub transfer_bytes: u64,
    /// Maximum number of open transfers. Opening another one closes the oldest.
    pub transfers: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            chunk: MAX_CHUNK,
            transfer_bytes: clr_adapters::Limits::DEFAULT.file_bytes as u64,
            transfers: 8,
        }
    }
}

impl SessionLimits {
    /// Sets the maximum bytes of a chunk in both directions, 64 to 65,536.
    #[must_use]
    pub fn with_chunk(mut self, chunk: u32) -> Self {
        self.chunk = chunk;
        self
    }

    /// Sets the maximum bytes of a transfer, and of the file that a delta produces.
    #[must_use]
    pub fn with_transfer_bytes(mut self, transfer_bytes: u64) -> Self {
        self.transfer_bytes = transfer_bytes;
        self
    }

    /// Sets the maximum number of open transfers.
    #[must_use]
    pub fn with_transfers(mut self, transfers: usize) -> Self {
        self.transfers = transfers;
        self
    }
}

/// A transfer in progress.
#[derive(Debug)]
struct Transfer {
    number: u32,
    begin: Begin,
    held: u64,
}

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
    transfers: Vec<Transfer>,
    /// Number of the last transfer.
    number: u32,
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
            transfers: Vec::new(),
            number: 0,
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
        (self.settled, self.number) = (None, 0);
        self.transfers.clear();
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

    fn carry_out(&mut self, request: Request<'_>) -> Result<Reply, Failure> {
        let device = self.device;
        let done = |()| Response::Done;
        let response = match request {
            Request::Begin(begin) => self.begin(begin)?,
            Request::Chunk { transfer, offset, data } => self.chunk(transfer, offset, data)?,
            Request::Commit(begin) => {
                self.check_size(&begin)?;
                let committed = device.commit(&begin)?;
                self.transfers.retain(|transfer| transfer.begin != begin);
                Response::Committed(committed)
            }
            Request::Abort { digest } => {
                self.transfers.retain(|transfer| transfer.begin.digest != digest);
                device.abort(&digest)?;
                Response::Done
            }
            Request::Status => {
                let mut status = device.status()?;
                status.clip();
                Response::Status(Box::new(status))
            }
            Request::List { after, budget } => self.list(after, budget)?,
            Request::Teach { task, label } => device.teach(task, label).map(done)?,
            Request::TeachStatus { task, label } => {
                let mut status = device.teach_status(task, label)?;
                status.clip();
                Response::Teaching(status)
            }
            Request::TeachLimits { task } => Response::TeachLimits(device.teach_limits(task)?),
            Request::ExampleTasks { after, budget } => {
                let mut tasks = device.example_tasks()?;
                tasks.retain(|task| task.task.as_str() > after);
                tasks.sort_by(|a, b| a.task.cmp(&b.task));
                let more = page(&mut tasks, self.page_bytes(budget));
                Response::ExampleTasks { tasks, more }
            }
            Request::Examples { task, after, budget } => {
                let mut examples = device.examples(task)?;
                examples.retain(|example| Some(example.id) > after);
                examples.sort_by_key(|example| example.id);
                let more = page(&mut examples, self.page_bytes(budget));
                Response::Examples { examples, more }
            }
            Request::OpenExample { task, id } => Response::Opened(device.open_example(task, &id)?),
            Request::RemoveExamples { task, selection } => {
                let mut removed = device.remove_examples(task, &selection)?;
                removed.clip();
                Response::Removed(removed)
            }
            Request::TuneCheck(request) => {
                let mut forecast = device.tune_check(&request)?;
                forecast.clip();
                Response::Forecast(forecast)
            }
            Request::Switch { task } => device.switch(task).map(done)?,
            Request::SwitchGroup { tasks } => device.switch_group(&group::parse(tasks)?).map(done)?,
            Request::Selection => {
                let mut tasks = device.selection()?;
                tasks.truncate(MAX_GROUP);
                Response::Selection(tasks)
            }
            Request::Rollback { task } => device.rollback(task).map(done)?,
            Request::Restore { task } => device.restore(task).map(done)?,
            Request::Remove { task } => device.remove(task).map(done)?,
            Request::MarkGood { task } => device.mark_good(task).map(done)?,
            Request::MarkBad { task } => device.mark_bad(task).map(done)?,
            Request::Open { task, slot } => Response::Opened(device.open(task, slot)?),
            Request::Read { digest, offset, length } => {
                let length = length.min(self.chunk_cap()) as usize;
                if self.data.len() < length {
                    self.data = vec![0; length];
                }
                let read = device.read(&digest, offset, &mut self.data[..length])?;
                return Ok(Reply::Data {
                    offset,
                    length: read.min(length),
                });
            }
            Request::Tune(request) => device.tune(&request).map(done)?,
            Request::TuneStatus => {
                let mut status = device.tune_status()?;
                status.clip();
                Response::Tuning(status)
            }
            Request::StopTuning => device.stop_tuning().map(done)?,
            Request::Health => {
                let mut health = device.health()?;
                health.clip();
                Response::Health(health)
            }
            Request::Enrol { roles, minutes } => Response::Enrolment(device.enrol(roles, minutes)?),
            Request::Hosts => {
                let mut hosts = device.hosts()?;
                clip_hosts(&mut hosts);
                Response::Hosts(hosts)
            }
            Request::Revoke { host } => device.revoke(host).map(done)?,
            Request::RotateKey { drop_old } => Response::Rotated(device.rotate_key(drop_old)?),
            Request::Hello { .. } => return Err(MessageFault::Unreadable.into()),
        };
        Ok(Reply::Message(response))
    }

    /// Returns the maximum bytes of a page: the requested budget, limited to what fits a frame.
    fn page_bytes(&self, budget: u32) -> usize {
        (budget as usize).min(self.largest - 1024)
    }

    fn chunk_cap(&self) -> u32 {
        self.settled.map_or(MIN_CHUNK, |settled| settled.chunk)
    }

    fn check_size(&self, begin: &Begin) -> Result<(), Failure> {
        let cap = self.limits.transfer_bytes;
        let got = begin.length.max(begin.kind.made_bytes().unwrap_or(0));
        if got > cap {
            let what = "bytes of a transfer";
            return Err(MessageFault::TooLarge { what, cap, got }.into());
        }
        Ok(())
    }

    fn begin(&mut self, begin: Begin) -> Result<Response<'static>, Failure> {
        self.check_size(&begin)?;
        let held = self.device.begin(&begin)?.min(begin.length);
        self.transfers.retain(|transfer| transfer.begin != begin);
        if self.transfers.len() >= self.limits.transfers.max(1) {
            self.transfers.remove(0);
        }
        self.number += 1;
        let number = self.number;
        self.transfers.push(Transfer { number, begin, held });
        Ok(Response::Begun { transfer: number, held })
    }

    fn chunk(&mut self, number: u32, offset: u64, data: &[u8]) -> Result<Response<'static>, Failure> {
        let cap = u64::from(self.chunk_cap());
        let Some(transfer) = self.transfers.iter_mut().find(|transfer| transfer.number == number) else {
            return Err(Failure::new(
                FailureCode::NO_TRANSFER,
                format_args!("transfer {number} is not open\nhint: it begins with a begin"),
            ));
        };
        let got = data.len() as u64;
        if got > cap {
            return Err(MessageFault::TooLarge {
                what: "bytes of a chunk",
                cap,
                got,
            }
            .into());
        }
        if offset.checked_add(got).is_none_or(|end| end > transfer.begin.length) {
            return Err(Failure::new(
                FailureCode::MALFORMED,
                format_args!(
                    "a chunk of {got} bytes at {offset} goes beyond the {} bytes announced",
                    transfer.begin.length
                ),
            ));
        }
        // A chunk after a gap is ignored. Of a chunk that overlaps, only the new bytes are taken. The reply states the
        // offset to continue at.
        if let Some(known) = transfer.held.checked_sub(offset)
            && known < got
        {
            let fresh = &data[known as usize..];
            let held = self.device.chunk(&transfer.begin.digest, transfer.held, fresh)?;
            transfer.held = held.min(transfer.begin.length);
        }
        Ok(Response::Held { held: transfer.held })
    }

    fn list(&self, after: &str, budget: u32) -> Result<Response<'static>, Failure> {
        let mut tasks = self.device.list()?;
        tasks.retain(|task| task.task.as_str() > after);
        tasks.sort_by(|a, b| a.task.cmp(&b.task));
        tasks.iter_mut().for_each(TaskSummary::clip);
        let more = page(&mut tasks, self.page_bytes(budget));
        Ok(Response::Tasks { tasks, more })
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

impl From<MessageFault> for Failure {
    fn from(fault: MessageFault) -> Self {
        let code = match fault {
            MessageFault::Unknown { .. } => FailureCode::UNSUPPORTED,
            MessageFault::TooLarge { .. } => FailureCode::TOO_LARGE,
            _ => FailureCode::MALFORMED,
        };
        let text = match fault {
            MessageFault::Unknown { kind } => {
                return Self {
                    hint: Some("the host is newer; update the device".to_owned()),
                    ..Self::new(code, format_args!("request {kind} is unknown to this device"))
                };
            }
            fault => fault,
        };
        Self::new(code, text)
    }
}

/// Truncates a list to a page of about `budget` bytes, but at least one entry. Returns whether entries were left out.
fn page<T: serde::Serialize>(entries: &mut Vec<T>, budget: usize) -> bool {
    let (mut bytes, mut fit) = (0, 0);
    for entry in &*entries {
        bytes += postcard::experimental::serialized_size(entry).unwrap_or(MAX_BODY);
        if fit > 0 && bytes > budget {
            break;
        }
        fit += 1;
    }
    let more = fit < entries.len();
    entries.truncate(fit);
    more
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
