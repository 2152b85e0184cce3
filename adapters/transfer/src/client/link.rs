//! One connection: requests and their answers, damage and silence told apart from refusal.

use alloc::{string::String, vec::Vec};
use core::fmt::Display;

use embedded_io::{Read, Write};

use super::{Client, LinkFault};
use crate::{
    failure::Failure,
    frame::{Direction, FrameEvent, Head, encode_frame},
    message::{Capabilities, DeviceInfo, MAX_CHUNK, MIN_CHUNK, Request, Response, VERSIONS},
    receive::{NoFrame, Patience, Receiver, send},
};

/// A connection on which both ends agreed.
pub(super) struct Established<S> {
    stream: S,
    receiver: Receiver,
    session: u32,
    sequence: u32,
    body: Vec<u8>,
    frame: Vec<u8>,
    pub(super) chunk: u32,
    pub(super) device: DeviceInfo,
}

/// Why an exchange gave no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The request or its answer was damaged or lost; the connection stands.
    Damaged,
    /// The device said no.
    Refused(Failure),
    /// The answer makes no sense.
    Unexpected,
    /// The connection is gone.
    Link(LinkFault),
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
            chunk: MIN_CHUNK,
            device: DeviceInfo {
                device: String::new(),
                software: String::new(),
                backbone: clr_adapters::Digest([0; 32]),
                capabilities: Capabilities::default(),
            },
        }
    }

    /// Writes the frame of a request and returns its sequence.
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
        self.frame.clear();
        encode_frame(&mut self.body, &mut self.frame);
        Ok(self.sequence)
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
    /// Says hello on a new connection.
    pub(super) fn greet(&mut self) -> Result<(), Lost> {
        let name = self.options.name.clone();
        let request = Request::Hello {
            min: *VERSIONS.start(),
            max: *VERSIONS.end(),
            chunk: self.options.chunk,
            client: &name,
        };
        let (version, chunk, device) = self.exchange(&request, true, |response| match response {
            Response::Welcome { version, chunk, device } => Some((version, chunk, device)),
            _ => None,
        })?;
        if !VERSIONS.contains(&version) || !(MIN_CHUNK..=MAX_CHUNK).contains(&chunk) {
            return Err(Lost::Unexpected);
        }
        self.pacing.cap(chunk);
        self.greeted = true;
        if let Some(link) = &mut self.established {
            (link.chunk, link.device) = (chunk, device);
        }
        Ok(())
    }

    /// Sends a request and waits for its answer. A damaged one is sent again if `again`, else reported.
    pub(super) fn exchange<T>(
        &mut self,
        request: &Request<'_>,
        again: bool,
        take: impl Fn(Response<'_>) -> Option<T>,
    ) -> Result<T, Lost> {
        let Some(link) = &mut self.established else {
            return Err(Lost::Link(LinkFault::Closed));
        };
        let never = || false;
        let clock = self.clock;
        let greets = matches!(request, Request::Hello { .. });
        let until = clock.now()
            + if greets {
                self.options.greeting
            } else {
                self.options.answer
            };
        let sequence = link.prepare(request)?;
        let patience = Patience {
            until,
            frame: self.options.frame,
            quiet: Some(self.options.quiet),
        };
        let mut sends = 0;
        loop {
            let by = clock.now() + self.options.frame;
            send(&mut link.stream, clock, &link.frame, by, &never).map_err(|reason| Lost::Link(reason.into()))?;
            sends += 1;
            loop {
                match link.receiver.next(&mut link.stream, clock, patience, &never) {
                    Ok(FrameEvent::Frame) => {}
                    Ok(FrameEvent::Damaged) | Err(NoFrame::Quiet) => break,
                    Err(reason) => return Err(Lost::Link(reason.into())),
                }
                let Some((head, message)) = Head::split(link.receiver.decoder.body()) else {
                    continue;
                };
                if head.direction != Direction::Reply || (head.session != link.session && head.session != 0) {
                    continue;
                }
                let response = Response::read(message);
                if head.sequence == 0 && response == Ok(Response::Damaged) {
                    break;
                }
                if head.session != link.session || head.sequence != sequence {
                    continue;
                }
                return match response {
                    Ok(Response::Failed(failure)) => Err(Lost::Refused(failure)),
                    Ok(response) => take(response).ok_or(Lost::Unexpected),
                    Err(_) => Err(Lost::Unexpected),
                };
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
