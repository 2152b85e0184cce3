//! Security of a client's sessions, and the client's side of a handshake.

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

/// Security of a [`Client`]'s sessions. An encrypted client never falls back to a plain session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// Sessions are unencrypted. This is for a Unix socket, pipes, or a device on this machine that has no known hosts.
    #[default]
    Plain,
    /// Sessions are encrypted. The host knows the device's key, and the device knows the host.
    #[cfg(feature = "secure")]
    Known {
        /// This host's key.
        secret: PeerSecret,
        /// The device's key.
        device: PeerKey,
    },
    /// The first contact, which is encrypted. After the first reply, [`Client::device_key`] returns the device's key.
    #[cfg(feature = "secure")]
    Enrol {
        /// This host's key.
        secret: PeerSecret,
        /// The code displayed by the device.
        code: EnrolmentCode,
        /// This host's name for the device's list.
        name: alloc::string::String,
    },
}

impl Security {
    /// Returns whether this client's sessions are encrypted.
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

    /// Returns the maximum chunk of a frame.
    pub(super) fn largest_chunk(&self) -> u32 {
        #[cfg(feature = "secure")]
        if self.is_encrypted() {
            return MAX_SECURE_CHUNK;
        }
        MAX_CHUNK
    }
}

/// Sealing of a connection's frames.
#[derive(Default)]
pub(super) struct Sealing {
    pub(super) transport: Option<Transport>,
    /// Whether the device has sent a sealed reply, which proves that both ends have opened the session.
    pub(super) confirmed: bool,
    /// The frame of the handshake's last message. It is sent before the hello until the device has replied.
    pub(super) ahead: alloc::vec::Vec<u8>,
}

#[cfg(not(feature = "secure"))]
impl<S, F, E> super::Client<'_, S, F>
where
    S: embedded_io::Read + embedded_io::Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// A plain connection without a handshake.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as with encrypted sessions"
    )]
    pub(super) fn secure(&mut self, _: &mut Established<S>) -> Result<(), super::link::Lost> {
        Ok(())
    }
}

/// Callback that receives the device's next key, to store it in place of the current one.
#[cfg(feature = "secure")]
pub(super) type OnSuccessor<'c> = Box<dyn FnMut(PeerKey) + 'c>;

#[cfg(feature = "secure")]
impl<'c, S, F, E> Client<'c, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Sets a callback for the device's next key. It is called when a device, authenticated by its known key, announces
    /// one.
    pub fn on_successor(&mut self, act: impl FnMut(PeerKey) + 'c) {
        self.on_successor = Some(Box::new(act));
    }

    /// Accepts the next key, which the known key has authenticated. The next connection expects it.
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

    /// Returns the device's key, which is known after the first reply of an encrypted session.
    pub fn device_key(&self) -> Option<PeerKey> {
        self.device_key
    }

    /// Performs the handshake of a new connection.
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
                Heard::Reply(second) => break second,
                Heard::Again => self.damaged += 1,
            }
            if sends >= self.options.sends || clock.now() >= patience.until {
                return Err(Lost::Link(LinkFault::Silent));
            }
        };
        // The checksum excludes accidental damage, so another device replied or the message was altered.
        let broken = |_| Lost::Link(LinkFault::Handshake);
        let payload = handshake.read(&second).map_err(broken)?;
        if pattern == Pattern::Known {
            // The known key authenticates this payload. A payload of another length comes from a newer device.
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
