//! Session security as the host wants it, and the host's end of a handshake.

#[cfg(feature = "secure")]
use alloc::{boxed::Box, vec::Vec};
use core::fmt::Display;
#[cfg(feature = "secure")]
use embedded_io::{Read, Write};

use super::link::Established;
#[cfg(feature = "secure")]
use super::{
    Client, LinkFault,
    link::{Heard, Lost},
};
use crate::{
    message::{MAX_CHUNK, VERSIONS},
    secure::Transport,
};
#[cfg(feature = "secure")]
use crate::{
    receive::Patience,
    secure::{
        EnrolmentCode, Handshake, MAX_SECURE_CHUNK, Pattern, PeerKey, PeerSecret, SECURE_VERSION, handshake_frame,
    },
};

/// How a [`Client`] secures its sessions. One that wants encryption never falls back to a plain session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// Not at all: over a Unix socket, pipes, or to a device on this machine that has no hosts.
    #[default]
    Plain,
    /// With a device whose key is known, and which knows this host.
    #[cfg(feature = "secure")]
    Known {
        /// This host's key.
        secret: PeerSecret,
        /// The device's.
        device: PeerKey,
    },
    /// First contact: [`Client::device_key`] is the device's key once a request was answered.
    #[cfg(feature = "secure")]
    Enrol {
        /// This host's key.
        secret: PeerSecret,
        /// The code that the device shows.
        code: EnrolmentCode,
        /// This host's name for the device's list.
        name: alloc::string::String,
    },
}

impl Security {
    /// Returns whether sessions are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    pub(super) fn versions(&self) -> core::ops::RangeInclusive<u16> {
        #[cfg(feature = "secure")]
        if self.is_encrypted() {
            return SECURE_VERSION..=SECURE_VERSION;
        }
        VERSIONS
    }

    /// The largest chunk that fits a frame.
    pub(super) fn largest_chunk(&self) -> u32 {
        #[cfg(feature = "secure")]
        if self.is_encrypted() {
            return MAX_SECURE_CHUNK;
        }
        MAX_CHUNK
    }
}

/// What seals the frames of a connection.
#[derive(Default)]
pub(super) struct Sealing {
    pub(super) transport: Option<Transport>,
    /// The device has sealed a reply: the session is open at both ends.
    pub(super) confirmed: bool,
    /// The frame of a handshake's last message, sent in front of the hello until the device has answered.
    pub(super) ahead: alloc::vec::Vec<u8>,
}

#[cfg(not(feature = "secure"))]
impl<S, F, E> super::Client<'_, S, F>
where
    S: embedded_io::Read + embedded_io::Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Nothing to agree on.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as with encrypted sessions"
    )]
    pub(super) fn secure(&mut self, _: &mut Established<S>) -> Result<(), super::link::Lost> {
        Ok(())
    }
}

/// Called with the key that follows the device's key, to remember it in place of that one.
#[cfg(feature = "secure")]
pub(super) type OnSuccessor<'c> = Box<dyn FnMut(PeerKey) + 'c>;

#[cfg(feature = "secure")]
impl<'c, S, F, E> Client<'c, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Calls `act` when the device, authenticated by the key that this host knows, has said which key follows it.
    pub fn on_successor(&mut self, act: impl FnMut(PeerKey) + 'c) {
        self.on_successor = Some(Box::new(act));
    }

    /// Takes the key that the device's known one vouches for: the next connection expects it.
    pub(super) fn follow(&mut self, successor: PeerKey) {
        if let Security::Known { device, .. } = &mut self.options.security
            && *device != successor
        {
            *device = successor;
            if let Some(act) = &mut self.on_successor {
                act(successor);
            }
        }
    }

    /// The key of the device at the other end of an encrypted session, once it has answered a request.
    pub fn device_key(&self) -> Option<PeerKey> {
        self.device_key
    }

    /// Makes the handshake of a new connection.
    pub(super) fn secure(&mut self, link: &mut Established<S>) -> Result<(), Lost> {
        let never = |_| Lost::Unexpected;
        let (pattern, handshake, name) = match &self.options.security {
            Security::Plain => return Ok(()),
            Security::Known { secret, device } => (Pattern::Known, Handshake::to_known(secret, device), ""),
            Security::Enrol { secret, code, name } => {
                (Pattern::Enrol, Handshake::to_enrol(secret, &code.psk()), name.as_str())
            }
        };
        let mut handshake = handshake.map_err(never)?;
        let name: Vec<u8> = name.as_bytes()[..name.floor_char_boundary(64)].to_vec();
        let first = handshake.write(&[]).map_err(never)?;
        let first = handshake_frame(pattern.head(link.session, 1), &first);
        let clock = self.clock;
        let patience = Patience {
            until: clock.now() + self.options.greeting,
            frame: self.options.frame,
            quiet: Some(self.options.quiet),
        };
        let expected = pattern.head(link.session, 2);
        let mut sends = 0;
        let second = loop {
            link.send(clock, self.options.frame, &first)?;
            sends += 1;
            let heard = link.wait(clock, patience, |head, message| {
                (head == expected).then(|| message.to_vec())
            })?;
            match heard {
                Heard::Answer(second) => break second,
                Heard::Again => self.damaged += 1,
            }
            if sends >= self.options.sends || clock.now() >= patience.until {
                return Err(Lost::Link(LinkFault::Silent));
            }
        };
        // Damage was already told apart by the checksum: this is another device's answer, or was altered.
        let broken = |_| Lost::Link(LinkFault::Handshake);
        let payload = handshake.read(&second).map_err(broken)?;
        if pattern == Pattern::Known {
            // Authenticated by the key that this host knows. A payload of another length is of a newer device.
            link.successor = <[u8; 32]>::try_from(payload).ok().map(PeerKey);
        }
        if pattern == Pattern::Enrol {
            let third = handshake.write(&name).map_err(broken)?;
            link.sealing.ahead = handshake_frame(pattern.head(link.session, 3), &third);
        }
        link.peer = handshake.peer();
        link.sealing.transport = Some(handshake.finish().map_err(broken)?);
        Ok(())
    }
}
