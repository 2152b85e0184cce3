//! Push: uploads a file.
//!
//! A push is `Begin`, chunks from the offset that the device reports, and `Commit`. After an interruption, the device
//! reports its offset again.

use core::fmt::Display;

use clr_adapters::Digest;
use embedded_io::{Read, Write};

use super::{Client, ClientError, LinkFault, Lost};
use crate::{
    failure::FailureCode,
    message::{Begin, Committed, Kind, Request, Response},
};

/// Progress of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Number of bytes that the receiver holds.
    pub done: u64,
    /// Number of bytes in total.
    pub total: u64,
}

/// Result of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The outcome on the device.
    pub committed: Committed,
    /// SHA-256 of the bytes sent.
    pub digest: Digest,
    /// Number of bytes that the device already had when the transfer began.
    pub resumed: u64,
    /// Number of bytes sent in chunks, including repeated ones.
    pub sent: u64,
    /// Number of the sent bytes that were sent more than once.
    pub repeated: u64,
    /// Number of chunks sent, including repeated ones.
    pub chunks: u64,
    /// Number of connections.
    pub connections: u32,
}

/// Maximum number of consecutive damaged chunks before a reconnection.
const DAMAGED_IN_A_ROW: u32 = 64;
/// Maximum number of consecutive replies without progress.
const STANDSTILL: u32 = 8;

/// The state of a push across connections.
#[derive(Default)]
struct Course {
    resumed: Option<u64>,
    sent: u64,
    chunks: u64,
    /// Highest end offset of the bytes sent so far.
    reach: u64,
    repeated: u64,
    /// The device holds all bytes; commit is next.
    complete: bool,
    /// Whether the device has already discarded the received bytes once because they were damaged.
    restarted: bool,
    /// Consecutive times that the device had lost the transfer and did not hold more bytes than ever before.
    forgotten: u32,
    /// Maximum number of bytes that the device has held so far.
    most: u64,
}

/// Result of sending chunks on one connection.
enum Leg {
    Complete,
    Again,
}

impl<S, F, E> Client<'_, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Uploads `bytes` and commits them. After an interruption it reconnects, and sends only bytes that the device does
    /// not have.
    ///
    /// The release statement of an adapter file is sent as its announcement, unless the device does not support
    /// announcements.
    ///
    /// # Errors
    /// [`ClientError`] if the upload fails. The device keeps the received bytes for the next push of the same file.
    pub fn push(
        &mut self,
        bytes: &[u8],
        kind: Kind,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, ClientError> {
        let mut begin = Begin {
            digest: Digest::of(bytes),
            length: bytes.len() as u64,
            kind: match kind {
                Kind::Adapter => Kind::of_file(bytes),
                kind => kind,
            },
        };
        let before = self.connections;
        let mut course = Course::default();
        loop {
            if !course.complete {
                self.established()?;
                match self.leg(&begin, bytes, &mut course, progress) {
                    Ok(Leg::Complete) => course.complete = true,
                    Ok(Leg::Again) => continue,
                    Err(Lost::Refused(failure)) if is_unknown(failure.code) => match begin.kind.unannounced() {
                        Some(kind) => {
                            begin.kind = kind;
                            continue;
                        }
                        None => return Err(ClientError::Refused(failure)),
                    },
                    Err(lost) => {
                        self.lost(lost, "chunk")?;
                        continue;
                    }
                }
            }
            self.established()?;
            let commit = Request::Commit(begin.clone());
            match self.exchange(&commit, true, |response| match response {
                Response::Committed(committed) => Some(committed),
                _ => None,
            }) {
                Ok(committed) => {
                    self.step_forward();
                    return Ok(Pushed {
                        committed,
                        digest: begin.digest,
                        resumed: course.resumed.unwrap_or(0),
                        sent: course.sent,
                        repeated: course.repeated,
                        chunks: course.chunks,
                        connections: self.connections - before.min(self.connections.saturating_sub(1)),
                    });
                }
                Err(Lost::Refused(failure)) if failure.code == FailureCode::NO_TRANSFER && !course.restarted => {
                    course.restarted = true;
                    course.complete = false;
                }
                Err(Lost::Refused(failure)) if failure.code.is_damage() && !course.restarted => {
                    course.restarted = true;
                    course.complete = false;
                    self.abort(begin.digest)?;
                }
                Err(lost) => self.lost(lost, "commit")?,
            }
        }
    }

    /// Begins the transfer on one connection, and sends chunks until the device has all bytes or the transfer must
    /// begin again.
    fn leg(
        &mut self,
        begin: &Begin,
        bytes: &[u8],
        course: &mut Course,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Leg, Lost> {
        let (transfer, mut held) = self.exchange(&Request::Begin(begin.clone()), true, |response| match response {
            Response::Begun { transfer, held } => Some((transfer, held)),
            _ => None,
        })?;
        if held > begin.length {
            return Err(Lost::Unexpected);
        }
        course.resumed.get_or_insert(held);
        let (mut damaged, mut standing) = (0, 0);
        while held < begin.length {
            progress(Progress {
                done: held,
                total: begin.length,
            });
            let end = begin.length.min(held + u64::from(self.pacing.size()));
            let data = &bytes[held as usize..end as usize];
            course.chunks += 1;
            course.sent += data.len() as u64;
            course.repeated += course.reach.min(end).saturating_sub(held);
            course.reach = course.reach.max(end);
            let chunk = Request::Chunk {
                transfer,
                offset: held,
                data,
            };
            let reply = self.exchange(&chunk, false, |response| match response {
                Response::Held { held } => Some(held),
                _ => None,
            });
            match reply {
                Ok(now) if now > begin.length => return Err(Lost::Unexpected),
                Ok(now) => {
                    damaged = 0;
                    if now > held {
                        standing = 0;
                        self.step_forward();
                        self.pacing.good();
                    } else {
                        standing += 1;
                    }
                    held = now;
                    if standing > STANDSTILL {
                        return Err(Lost::Unexpected);
                    }
                }
                Err(Lost::Damaged) => {
                    damaged += 1;
                    self.pacing.bad();
                    if damaged >= DAMAGED_IN_A_ROW {
                        return Err(Lost::Link(LinkFault::Silent));
                    }
                }
                Err(Lost::Refused(failure)) if failure.code == FailureCode::NO_TRANSFER => {
                    // Other uploads may displace this transfer repeatedly; that is tolerated as long as it advances.
                    course.forgotten = if held > course.most { 0 } else { course.forgotten + 1 };
                    course.most = course.most.max(held);
                    if course.forgotten >= STANDSTILL {
                        return Err(Lost::Refused(failure));
                    }
                    return Ok(Leg::Again);
                }
                Err(lost) => {
                    self.pacing.cut();
                    return Err(lost);
                }
            }
        }
        progress(Progress {
            done: held,
            total: begin.length,
        });
        Ok(Leg::Complete)
    }
}

/// Returns whether the failure means that the device does not support a kind of transfer. Such a device cannot parse
/// the rest of the message.
const fn is_unknown(code: FailureCode) -> bool {
    matches!(code, FailureCode::MALFORMED | FailureCode::UNSUPPORTED)
}
