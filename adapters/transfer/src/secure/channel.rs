//! Server side of a connection: handshakes, sealed frames, and plain frames where these are accepted.

use alloc::{boxed::Box, string::String, vec::Vec};

use super::{
    Handshake, MAX_PLAIN, MAX_SECURE_CHUNK, Pattern, PeerKey, PeerSecret, SECURE_VERSION, Transport, handshake::Broken,
};
use crate::{
    device::Device,
    failure::{Failure, FailureCode},
    frame::{Direction, Head, encode_frame},
    refusal::AccessRefusal,
    session::{Frames, Session, SessionLimits},
};

/// Admission of sessions on one connection.
pub trait Admission: Sync {
    /// Returns the device's secret key; `None` if it is unavailable.
    fn secret(&self) -> Option<PeerSecret>;

    /// Returns the key from before the last rotation, as long as it is accepted. A session under this key announces the
    /// new key to the host.
    fn old_secret(&self) -> Option<PeerSecret> {
        None
    }

    /// Called after a host has opened a session under the old key and received the new one.
    fn announced(&self, host: &PeerKey) {
        let _ = host;
    }

    /// Returns whether plain sessions are accepted.
    fn admits_plain(&self) -> bool;

    /// Checks that the device admits a host with this key.
    ///
    /// # Errors
    /// [`AccessRefusal`] if the host is not admitted.
    fn admits(&self, host: &PeerKey) -> Result<(), AccessRefusal>;

    /// Returns the pre-shared key derived from the code of the open enrolment.
    fn enrolment(&self) -> Option<[u8; 32]>;

    /// Enrols a host that has proved knowledge of the code. A repeated call for the same host returns the same result.
    /// # Errors
    /// [`AccessRefusal`] if the host cannot be enrolled.
    /// The reason for the refusal.
    fn enrol(&self, host: &PeerKey, name: &str) -> Result<(), AccessRefusal>;

    /// Called after a host has shown a wrong code.
    fn wrong_code(&self);

    /// Called at the start of a session with the host's key, or `None` for a plain session.
    ///
    /// # Errors
    /// [`AccessRefusal`] if the session is refused at this moment.
    fn enter(&self, host: Option<&PeerKey>) -> Result<(), AccessRefusal>;

    /// Runs a computation of a handshake. A device may limit the number of concurrent ones.
    fn calculate(&self, work: &mut dyn FnMut()) {
        work();
    }
}

/// The first message of a handshake, and the reply to send again if that message is repeated.
struct Answered {
    session: u32,
    first: Vec<u8>,
    reply: Vec<u8>,
}

/// A handshake that has not led to a session yet.
enum Pending {
    None,
    /// A first contact that waits for the handshake's third message.
    Third(Answered, Box<Handshake>),
    /// A complete handshake. The first valid sealed frame opens the session.
    Ready {
        answered: Answered,
        transport: Transport,
        host: PeerKey,
        /// Whether the host used the device's old key.
        by_old: bool,
    },
    /// The third message was refused with this frame.
    Refused {
        session: u32,
        third: Vec<u8>,
        reply: Vec<u8>,
    },
}

/// State of a connection: the open session, and the handshake in progress.
pub struct Channel<'d> {
    device: &'d dyn Device,
    admission: &'d dyn Admission,
    limits: SessionLimits,
    session: Session<'d>,
    transport: Option<Transport>,
    /// Whether a plain session has been admitted.
    plain: bool,
    pending: Pending,
    out: Vec<u8>,
}

impl<'d> Channel<'d> {
    /// Creates a connection without a session.
    pub fn new(device: &'d dyn Device, admission: &'d dyn Admission, limits: SessionLimits) -> Self {
        Self {
            device,
            admission,
            limits,
            session: Session::new(device, limits),
            transport: None,
            plain: false,
            pending: Pending::None,
            out: Vec::new(),
        }
    }

    /// Handles the body of a frame. Returns the frame to send, if any.
    pub fn handle(&mut self, body: &[u8]) -> Option<&[u8]> {
        let (head, message) = Head::split(body)?;
        match head.direction {
            Direction::Handshake => self.handshake(head, message),
            Direction::SealedRequest => self.sealed(body),
            Direction::Request => self.plain(head, body),
            Direction::Reply | Direction::SealedReply => None,
        }
    }

    /// Returns the frame that asks for a repetition after a damaged one. It is never sealed: forging it only causes a
    /// repetition.
    pub fn damaged(&mut self) -> &[u8] {
        self.session.damaged()
    }

    fn plain(&mut self, head: Head, body: &[u8]) -> Option<&[u8]> {
        if !self.admission.admits_plain() {
            let failure = Failure::new(FailureCode::UNAUTHENTICATED, AccessRefusal::PlainNotTaken);
            return Some(self.session.refuse(head, failure));
        }
        if !self.plain {
            if let Err(refusal) = self.admission.enter(None) {
                let failure = Failure::new(FailureCode::BUSY, refusal);
                return Some(self.session.refuse(head, failure));
            }
            self.session = Session::new(self.device, self.limits);
            (self.plain, self.transport) = (true, None);
        }
        self.session.handle(body)
    }

    fn sealed(&mut self, body: &[u8]) -> Option<&[u8]> {
        let mut opened = self.transport.as_mut().and_then(|transport| transport.open(body));
        if opened.is_none()
            && let Pending::Ready {
                transport,
                host,
                by_old,
                ..
            } = &mut self.pending
        {
            opened = transport.open(body);
            if opened.is_some() {
                let (host, by_old) = (*host, *by_old);
                let Pending::Ready { transport, .. } = core::mem::replace(&mut self.pending, Pending::None) else {
                    return None;
                };
                if let Err(refusal) = self.admission.enter(Some(&host)) {
                    return Some(self.refuse(0, refusal));
                }
                if by_old {
                    self.admission.announced(&host);
                }
                self.session = sealed_session(self.device, self.limits);
                (self.transport, self.plain) = (Some(transport), false);
            }
        }
        let Some(plain) = opened else {
            // Without a session or handshake, a sealed frame belongs to a session before a restart. In all other cases
            // it is a repetition or forged.
            let unknown = self.transport.is_none() && matches!(self.pending, Pending::None);
            return unknown.then(|| self.refuse(0, AccessRefusal::NoSession));
        };
        let reply = self.session.handle_body(&plain)?;
        let mut sealed = self.transport.as_mut()?.seal(reply)?;
        self.out.clear();
        encode_frame(&mut sealed, &mut self.out);
        Some(&self.out)
    }

    fn refuse(&mut self, session: u32, refusal: AccessRefusal) -> &[u8] {
        self.out = refusal.frame(session);
        &self.out
    }

    fn handshake(&mut self, head: Head, message: &[u8]) -> Option<&[u8]> {
        match Pattern::of(head)? {
            (pattern, 1) => Some(self.first(pattern, head.session, message)),
            (Pattern::Enrol, 3) => self.third(head.session, message),
            // The device's own messages, echoed by the line.
            _ => None,
        }
    }

    fn first(&mut self, pattern: Pattern, session: u32, message: &[u8]) -> &[u8] {
        if let Pending::Third(answered, _) | Pending::Ready { answered, .. } = &self.pending
            && answered.session == session
            && answered.first == message
        {
            self.out.clone_from(&answered.reply);
            return &self.out;
        }
        match self.answer_first(pattern, session, message) {
            Ok(pending) => self.pending = pending,
            Err(refusal) => return self.refuse(session, refusal),
        }
        &self.out
    }

    /// Writes the reply to the first message of a handshake into `out`.
    fn answer_first(&mut self, pattern: Pattern, session: u32, message: &[u8]) -> Result<Pending, AccessRefusal> {
        let secret = self.admission.secret().ok_or(AccessRefusal::Unavailable)?;
        let psk = match pattern {
            Pattern::Known => [0; 32],
            Pattern::Enrol => self.admission.enrolment().ok_or(AccessRefusal::NotOpen)?,
        };
        let mut read = self.read_first(pattern, &secret, &psk, message);
        let mut successor = None;
        if read.is_err()
            && pattern == Pattern::Known
            && let Some(old) = self.admission.old_secret()
        {
            read = self.read_first(pattern, &old, &psk, message);
            successor = Some(secret.public());
        }
        let mut handshake = read.map_err(|Broken| AccessRefusal::WrongKey)?;
        // The device looks up the host before it computes the second half.
        let host = match pattern {
            Pattern::Known => {
                let host = handshake.peer().ok_or(AccessRefusal::WrongKey)?;
                self.admission.admits(&host)?;
                Some(host)
            }
            Pattern::Enrol => None,
        };
        let mut reply = Err(Broken);
        let payload: &[u8] = successor.as_ref().map_or(&[], |key| &key.0);
        self.admission.calculate(&mut || reply = handshake.write(payload));
        let reply = reply.map_err(|Broken| AccessRefusal::Unavailable)?;
        self.out = handshake_frame(pattern.head(session, 2), &reply);
        let answered = Answered {
            session,
            first: message.to_vec(),
            reply: self.out.clone(),
        };
        Ok(match host {
            Some(host) => Pending::Ready {
                answered,
                transport: handshake.finish().map_err(|Broken| AccessRefusal::Unavailable)?,
                host,
                by_old: successor.is_some(),
            },
            None => Pending::Third(answered, Box::new(handshake)),
        })
    }

    /// Starts a handshake from a host's first message with one of the device's keys.
    fn read_first(
        &self,
        pattern: Pattern,
        secret: &PeerSecret,
        psk: &[u8; 32],
        message: &[u8],
    ) -> Result<Handshake, Broken> {
        let mut read = Err(Broken);
        self.admission.calculate(&mut || {
            read = Handshake::of_device(pattern, secret, psk).and_then(|mut handshake| {
                handshake.read(message)?;
                Ok(handshake)
            });
        });
        read
    }

    fn third(&mut self, session: u32, message: &[u8]) -> Option<&[u8]> {
        match core::mem::replace(&mut self.pending, Pending::None) {
            Pending::Third(answered, handshake) if answered.session == session => {
                match self.enrol(*handshake, message) {
                    Ok((transport, host)) => {
                        self.pending = Pending::Ready {
                            answered,
                            transport,
                            host,
                            by_old: false,
                        };
                        // No reply is needed: the host's hello follows immediately, and the reply to it proves that the
                        // device knows the code.
                        None
                    }
                    Err(refusal) => {
                        let reply = refusal.frame(session);
                        self.out.clone_from(&reply);
                        let third = message.to_vec();
                        self.pending = Pending::Refused { session, third, reply };
                        Some(&self.out)
                    }
                }
            }
            Pending::Refused {
                session: refused,
                third,
                reply,
            } if refused == session && third == message => {
                self.out.clone_from(&reply);
                self.pending = Pending::Refused { session, third, reply };
                Some(&self.out)
            }
            // The message is repeated, or belongs to a lost handshake. The following hello shows which.
            other => {
                self.pending = other;
                None
            }
        }
    }

    fn enrol(&self, mut handshake: Handshake, message: &[u8]) -> Result<(Transport, PeerKey), AccessRefusal> {
        let mut read = Err(Broken);
        self.admission.calculate(&mut || read = handshake.read(message));
        let (Ok(name), Some(host)) = (read, handshake.peer()) else {
            self.admission.wrong_code();
            return Err(AccessRefusal::WrongCode);
        };
        let transport = handshake.finish().map_err(|Broken| AccessRefusal::Unavailable)?;
        let name = String::from_utf8_lossy(&name);
        self.admission.enrol(&host, &name)?;
        Ok((transport, host))
    }
}

impl Frames for Channel<'_> {
    fn handle(&mut self, body: &[u8]) -> Option<&[u8]> {
        self.handle(body)
    }

    fn damaged(&mut self) -> &[u8] {
        self.damaged()
    }

    fn is_open(&self) -> bool {
        self.session.is_settled()
    }
}

impl core::fmt::Debug for Channel<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Channel")
            .field("session", &self.session)
            .field("sealed", &self.transport.is_some())
            .finish_non_exhaustive()
    }
}

/// Creates a session whose bodies are sealed before they are sent.
fn sealed_session(device: &dyn Device, limits: SessionLimits) -> Session<'_> {
    let chunk = limits.chunk.min(MAX_SECURE_CHUNK);
    Session::of_version(SECURE_VERSION, MAX_PLAIN, device, SessionLimits { chunk, ..limits })
}

/// Returns the frame of a handshake message.
pub(crate) fn handshake_frame(head: Head, message: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(Head::BYTES + message.len() + 4);
    head.write(&mut body);
    body.extend(message);
    let mut out = Vec::new();
    encode_frame(&mut body, &mut out);
    out
}
