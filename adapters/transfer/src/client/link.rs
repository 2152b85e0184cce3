//! One connection: sends requests, reads replies, and distinguishes damage and timeouts from refusals.

use alloc::{string::String, vec::Vec};
use core::{fmt::Display, time::Duration};

use embedded_io::{Read, Write};

use super::{Client, LinkFault, security::Sealing};
use crate::{
    clock::Clock,
    failure::Failure,
    frame::{Direction, FrameEvent, Head, encode_frame},
    message::{Capabilities, DeviceInfo, MIN_CHUNK, Request, Response},
    receive::{NoFrame, Patience, Receiver, send},
    refusal::AccessRefusal,
};

/// A connection with an agreed protocol version and chunk size.
pub(super) struct Established<S> {
    stream: S,
    receiver: Receiver,
    pub(super) session: u32,
    sequence: u32,
    /// The body of the current request, before sealing.
    body: Vec<u8>,
    frame: Vec<u8>,
    pub(super) sealing: Sealing,
    /// The device's key in the handshake.
    #[cfg(feature = "secure")]
    pub(super) peer: Option<crate::secure::PeerKey>,
    /// The device's next key, announced in the handshake.
    #[cfg(feature = "secure")]
    pub(super) successor: Option<crate::secure::PeerKey>,
    pub(super) chunk: u32,
    pub(super) device: DeviceInfo,
}

/// Reason for an exchange without a reply.
#[derive(Debug)]
pub(super) enum Lost {
    /// The request or its reply was damaged or lost, but the connection still works.
    Damaged,
    /// The device refused the request.
    Refused(Failure),
    /// The device refuses a session.
    NotAdmitted(AccessRefusal),
    /// The reply does not match the request.
    Unexpected,
    /// The connection is lost.
    Link(LinkFault),
}

/// Result of waiting for a reply.
pub(super) enum Heard<T> {
    /// The reply.
    Reply(T),
    /// The frame was damaged or did not arrive: the request has to be sent again.
    Again,
}

impl<S> Established<S> {
    pub(super) fn new(stream: S, session: u32) -> Self {
        Self {
            stream,
            receiver: Receiver::new(),
            session,
            sequence: 0,
            body: Vec::new(),
            frame: Vec::new(),
            sealing: Sealing::default(),
            #[cfg(feature = "secure")]
            peer: None,
            #[cfg(feature = "secure")]
            successor: None,
            chunk: MIN_CHUNK,
            device: DeviceInfo {
                device: String::new(),
                software: String::new(),
                backbone: clr_adapters::Digest([0; 32]),
                capabilities: Capabilities::default(),
            },
        }
    }

    /// Writes the body of a request, and returns its sequence number.
    fn prepare(&mut self, request: &Request<'_>) -> Result<u32, Lost> {
        self.sequence += 1;
        let head = Head {
            direction: Direction::Request,
            session: self.session,
            sequence: self.sequence,
        };
        self.body.clear();
        head.write(&mut self.body);
        self.body = request.write(core::mem::take(&mut self.body)).ok_or(Lost::Unexpected)?;
        Ok(self.sequence)
    }

    /// Writes the frame of the body. An encrypted session seals it with a new counter each time.
    fn seal(&mut self) -> Result<(), Lost> {
        self.frame.clear();
        self.frame.extend(&self.sealing.ahead);
        match &mut self.sealing.transport {
            None => encode_frame(&mut self.body, &mut self.frame),
            Some(transport) => {
                let mut sealed = transport.seal(&self.body).ok_or(Lost::Unexpected)?;
                encode_frame(&mut sealed, &mut self.frame);
            }
        }
        Ok(())
    }
}

impl<S: Read + Write> Established<S> {
    /// Sends a frame.
    pub(super) fn send(&mut self, clock: &dyn Clock, patience: Duration, frame: &[u8]) -> Result<(), Lost> {
        let by = clock.now() + patience;
        send(&mut self.stream, clock, frame, by, &|| false).map_err(|reason| Lost::Link(reason.into()))
    }

    /// Waits for a frame that `take` accepts.
    pub(super) fn wait<T>(
        &mut self,
        clock: &dyn Clock,
        patience: Patience,
        mut take: impl FnMut(Head, &[u8]) -> Option<T>,
    ) -> Result<Heard<T>, Lost> {
        loop {
            match self.receiver.next(&mut self.stream, clock, patience, &|| false) {
                Ok(FrameEvent::Frame) => {}
                Ok(FrameEvent::Damaged) | Err(NoFrame::Quiet) => return Ok(Heard::Again),
                Err(reason) => return Err(Lost::Link(reason.into())),
            }
            let body = self.receiver.decoder.body();
            let Some((head, message)) = Head::split(body) else {
                continue;
            };
            if let Some(refusal) = AccessRefusal::of(head, message, self.session) {
                // The device cannot know this session before it is confirmed, so the refusal is about an earlier
                // connection's frame.
                if refusal == AccessRefusal::NoSession && !self.sealing.confirmed {
                    continue;
                }
                return Err(Lost::NotAdmitted(refusal));
            }
            // The device never seals its request to repeat a frame. A forged one is harmless, as it only causes a
            // repetition.
            if head.direction == Direction::Reply
                && (head.session == self.session || head.session == 0)
                && head.sequence == 0
                && Response::read(message) == Ok(Response::Damaged)
            {
                return Ok(Heard::Again);
            }
            let taken = match (&mut self.sealing.transport, head.direction) {
                (Some(transport), Direction::SealedReply) => {
                    let plain = transport.open(body);
                    self.sealing.confirmed |= plain.is_some();
                    let inner = plain.as_deref().and_then(Head::split);
                    inner
                        .filter(|(head, _)| head.direction == Direction::Reply)
                        .and_then(|(head, message)| take(head, message))
                }
                (None, Direction::Reply | Direction::Handshake) => take(head, message),
                _ => None,
            };
            if let Some(taken) = taken {
                return Ok(Heard::Reply(taken));
            }
        }
    }
}

impl From<NoFrame> for LinkFault {
    fn from(reason: NoFrame) -> Self {
        match reason {
            NoFrame::Closed | NoFrame::Stopped => Self::Closed,
            NoFrame::Idle | NoFrame::Quiet => Self::Silent,
            NoFrame::Stalled => Self::Stalled,
            NoFrame::Io(kind) => Self::Io(kind),
        }
    }
}

impl<S, F, E> Client<'_, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Opens the session on a new connection.
    pub(super) fn greet(&mut self) -> Result<(), Lost> {
        let name = self.options.name.clone();
        let versions = self.options.security.versions();
        let largest = self.options.security.largest_chunk();
        let request = Request::Hello {
            min: *versions.start(),
            max: *versions.end(),
            chunk: self.options.chunk.min(largest),
            client: &name,
        };
        let (version, chunk, device) = self.exchange(&request, true, |response| match response {
            Response::Welcome { version, chunk, device } => Some((version, chunk, device)),
            _ => None,
        })?;
        if !versions.contains(&version) || !(MIN_CHUNK..=largest).contains(&chunk) {
            return Err(Lost::Unexpected);
        }
        self.pacing.cap(chunk);
        self.greeted = true;
        if let Some(link) = &mut self.established {
            (link.chunk, link.device) = (chunk, device);
            #[cfg(feature = "secure")]
            {
                self.device_key = link.peer.or(self.device_key);
                if let Some(successor) = link.successor.take() {
                    self.follow(successor);
                }
            }
        }
        Ok(())
    }

    /// Sends a request and waits for its reply. Repeats a damaged exchange if `again` is set; otherwise reports it.
    pub(super) fn exchange<T>(
        &mut self,
        request: &Request<'_>,
        again: bool,
        take: impl Fn(Response<'_>) -> Option<T>,
    ) -> Result<T, Lost> {
        let Some(link) = &mut self.established else {
            return Err(Lost::Link(LinkFault::Closed));
        };
        let clock = self.clock;
        let greets = matches!(request, Request::Hello { .. });
        let until = clock.now()
            + if greets {
                self.options.greeting
            } else {
                self.options.reply
            };
        let sequence = link.prepare(request)?;
        let patience = Patience {
            until,
            frame: self.options.frame,
            quiet: Some(self.options.quiet),
        };
        let session = link.session;
        let mut sends = 0;
        loop {
            link.seal()?;
            let frame = core::mem::take(&mut link.frame);
            let sent = link.send(clock, self.options.frame, &frame);
            link.frame = frame;
            sent?;
            sends += 1;
            let heard = link.wait(clock, patience, |head, message| {
                let mine = head.session == session && head.sequence == sequence;
                mine.then(|| match Response::read(message) {
                    Ok(Response::Failed(failure)) => Err(Lost::Refused(failure)),
                    Ok(response) => take(response).ok_or(Lost::Unexpected),
                    Err(_) => Err(Lost::Unexpected),
                })
            })?;
            if let Heard::Reply(reply) = heard {
                link.sealing.ahead.clear();
                return reply;
            }
            self.damaged += 1;
            if !again {
                return Err(Lost::Damaged);
            }
            if sends >= self.options.sends || clock.now() >= until {
                return Err(Lost::Link(LinkFault::Silent));
            }
        }
    }
}
