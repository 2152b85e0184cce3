//! Sending: begin, chunks from the offset that the device holds, commit; after a cut from there again.

use core::fmt::Display;

use clr_adapters::Digest;
use embedded_io::{Read, Write};

use super::{Client, ClientError, LinkFault, Lost};
use crate::{
    failure::FailureCode,
    message::{Begin, Committed, Kind, Request, Response},
};

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that the other end holds.
    pub done: u64,
    /// Bytes of the whole.
    pub total: u64,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// What came of it.
    pub committed: Committed,
    /// SHA-256 of the bytes sent.
    pub digest: Digest,
    /// Bytes that the device held already when the transfer began.
    pub resumed: u64,
    /// Bytes sent in chunks, repeats included.
    pub sent: u64,
    /// Of these, bytes that were sent more than once.
    pub repeated: u64,
    /// Chunks sent, repeats included.
    pub chunks: u64,
    /// Connections that it took.
    pub connections: u32,
}

/// Chunks in a row that may be damaged before the connection is made again.
const DAMAGED_IN_A_ROW: u32 = 64;
/// Answers in a row without a step forward.
const STANDSTILL: u32 = 8;

/// The state of a push across connections.
#[derive(Default)]
struct Course {
    resumed: Option<u64>,
    sent: u64,
    chunks: u64,
    /// Beyond the highest byte sent so far.
    reach: u64,
    repeated: u64,
    /// Everything was held; the next step is to commit.
    whole: bool,
    /// Whether the bytes were thrown away once as damaged.
    restarted: bool,
    /// How often in a row the device had forgotten the transfer, with no byte more to show for it.
    forgotten: u32,
    /// The most bytes that the device ever held.
    most: u64,
}

/// How the sending of chunks ended.
enum Leg {
    Whole,
    Again,
}

impl<S, F, E> Client<'_, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Sends `bytes` and has them used. Cut connections are made again; what the device holds is not sent again.
    ///
    /// An adapter file with a release statement is announced by it; a device that does not know announcements gets the
    /// transfer without.
    ///
    /// # Errors
    /// [`ClientError`]; what the device holds by then stays there for the next push of the same bytes.
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
            if !course.whole {
                self.established()?;
                match self.leg(&begin, bytes, &mut course, progress) {
                    Ok(Leg::Whole) => course.whole = true,
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
                    course.whole = false;
                }
                Err(Lost::Refused(failure)) if failure.code.is_damage() && !course.restarted => {
                    course.restarted = true;
                    course.whole = false;
                    self.abort(begin.digest)?;
                }
                Err(lost) => self.lost(lost, "commit")?,
            }
        }
    }

    /// One stretch on one connection: begin, then chunks until all is held or the transfer has to begin again.
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
            let answer = self.exchange(&chunk, false, |response| match response {
                Response::Held { held } => Some(held),
                _ => None,
            });
            match answer {
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
                    // Others may take its place again and again.
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
        Ok(Leg::Whole)
    }
}

/// What a device answers to a kind of transfer that it does not know: the rest of such a message has no form for it.
const fn is_unknown(code: FailureCode) -> bool {
    matches!(code, FailureCode::MALFORMED | FailureCode::UNSUPPORTED)
}
