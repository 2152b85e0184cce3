//! Client of the update protocol: requests, push and pull, with reconnection and resumption.

mod commands;
mod error;
mod link;
mod options;
mod pull;
mod push;
mod security;
mod teach_batch;

use alloc::string::ToString;
use core::{fmt::Display, time::Duration};

use embedded_io::{Read, Write};

use self::link::{Established, Lost};
use crate::{
    clock::Clock,
    failure::{Failure, FailureCode},
    message::{MAX_CHUNK, Request, Response},
    pacing::Pacing,
    refusal::AccessRefusal,
};

pub use self::{
    error::{ClientError, LinkFault},
    options::ClientOptions,
    pull::Pulled,
    push::{Progress, Pushed},
    security::Security,
    teach_batch::TeachBatch,
};

/// Maximum number of failed connections if the device has never replied.
const FIRST_GREETINGS: u32 = 3;

/// Whether a request with an unknown outcome may be repeated on another connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// The request is idempotent and may be repeated.
    Safe,
    /// The request is not idempotent and must not be repeated.
    Never,
}

/// A client of the protocol. It calls `connect` to open a stream, and calls it again after every interruption.
pub struct Client<'c, S, F> {
    connect: F,
    clock: &'c dyn Clock,
    options: ClientOptions,
    established: Option<Established<S>>,
    pacing: Pacing,
    /// Number of connections.
    connections: u32,
    /// Whether the device has ever replied.
    greeted: bool,
    /// Consecutive connections without progress.
    futile: u32,
    damaged: u64,
    #[cfg(feature = "secure")]
    device_key: Option<crate::secure::PeerKey>,
    #[cfg(feature = "secure")]
    on_successor: Option<security::OnSuccessor<'c>>,
}

impl<'c, S, F, E> Client<'c, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Creates a client. It connects with its first request.
    pub fn new(connect: F, clock: &'c dyn Clock, options: ClientOptions) -> Self {
        Self {
            pacing: Pacing::new(options.chunk.clamp(crate::message::MIN_CHUNK, MAX_CHUNK)),
            connect,
            clock,
            options,
            established: None,
            connections: 0,
            greeted: false,
            futile: 0,
            damaged: 0,
            #[cfg(feature = "secure")]
            device_key: None,
            #[cfg(feature = "secure")]
            on_successor: None,
        }
    }

    /// Returns the number of frames that were repeated because of damage or loss.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Sends a request until a reply arrives, and reconnects as needed.
    fn ask<T>(
        &mut self,
        request: &Request<'_>,
        repeat: Repeat,
        take: impl Fn(Response<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        loop {
            self.established()?;
            match self.exchange(request, true, &take) {
                Ok(reply) => {
                    self.futile = 0;
                    return Ok(reply);
                }
                Err(lost) => {
                    let reached = matches!(lost, Lost::Link(_));
                    self.lost(lost, request.name())?;
                    if reached && repeat == Repeat::Never {
                        return Err(ClientError::Uncertain {
                            request: request.name(),
                        });
                    }
                }
            }
        }
    }

    /// Decides after a failed exchange whether the request is tried again. If the connection is lost, the next attempt
    /// opens a new one.
    fn lost(&mut self, lost: Lost, request: &'static str) -> Result<(), ClientError> {
        match lost {
            Lost::Damaged => Ok(()),
            Lost::Unexpected => Err(ClientError::Unexpected { request }),
            Lost::Refused(failure) if failure.code == FailureCode::SESSION => self.drop_link(LinkFault::Session),
            Lost::Refused(failure) => Err(ClientError::Refused(failure)),
            Lost::NotAdmitted(AccessRefusal::NoSession) => self.drop_link(LinkFault::Session),
            // The device may still count the connection from before the interruption, so this is temporary.
            Lost::NotAdmitted(AccessRefusal::Busy) => self.drop_link(LinkFault::Busy),
            Lost::NotAdmitted(refusal) => {
                self.established = None;
                Err(ClientError::NotAdmitted(refusal))
            }
            Lost::Link(fault) => self.drop_link(fault),
        }
    }

    fn drop_link(&mut self, fault: LinkFault) -> Result<(), ClientError> {
        self.established = None;
        self.futile += 1;
        // A device that has never replied is probably unreachable, so fewer attempts are made.
        let allowed = if self.greeted {
            self.options.attempts
        } else {
            self.options.attempts.min(FIRST_GREETINGS)
        };
        if self.futile >= allowed {
            let attempts = core::mem::take(&mut self.futile);
            return Err(ClientError::Lost { attempts, fault });
        }
        self.clock.sleep(self.wait());
        Ok(())
    }

    fn wait(&self) -> Duration {
        let doubled = self
            .options
            .backoff
            .saturating_mul(1 << self.futile.saturating_sub(1).min(16));
        doubled.min(self.options.longest_backoff)
    }

    /// Records progress by resetting the count of consecutive failures.
    fn step_forward(&mut self) {
        self.futile = 0;
    }

    /// Returns the connection, and opens it if there is none.
    fn established(&mut self) -> Result<&mut Established<S>, ClientError> {
        while self.established.is_none() {
            let stream = match (self.connect)() {
                Ok(stream) => stream,
                Err(error) => {
                    self.futile += 1;
                    let allowed = if self.connections == 0 {
                        self.options.first_attempts
                    } else {
                        self.options.attempts
                    };
                    if self.futile >= allowed.max(1) {
                        self.futile = 0;
                        return Err(ClientError::Connect {
                            reason: error.to_string(),
                        });
                    }
                    self.clock.sleep(self.wait());
                    continue;
                }
            };
            let session = self.options.session.wrapping_add(self.connections);
            self.connections += 1;
            let mut link = Established::new(stream, session);
            let secured = self.secure(&mut link);
            self.established = Some(link);
            if let Err(lost) = secured.and_then(|()| self.greet()) {
                self.established = None;
                match lost {
                    Lost::Refused(failure) => return Err(ClientError::Refused(failure)),
                    lost => self.lost(lost, "hello")?,
                }
            }
        }
        self.established
            .as_mut()
            .ok_or(ClientError::Unexpected { request: "hello" })
    }
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl<S, F> core::fmt::Debug for Client<'_, S, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .field("connections", &self.connections)
            .field("damaged", &self.damaged)
            .finish_non_exhaustive()
    }
}
