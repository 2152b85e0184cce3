//! Noise handshakes of host and device, as messages to send and to read.

use alloc::{vec, vec::Vec};

use snow::{Builder, HandshakeState};

use super::{PeerKey, PeerSecret, Transport};
use crate::frame::{Direction, Head};

const PROLOGUE: &[u8] = b"clr/2";
/// Maximum bytes of a handshake message, including its payload.
const MAX_MESSAGE: usize = 512;
/// Index of the pre-shared key in the pattern `XXpsk3`.
const PSK: u8 = 3;

/// The Noise pattern of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Pattern {
    /// The host and the device know each other's keys.
    Known = 1,
    /// First contact, with a code.
    Enrol = 2,
}

impl Pattern {
    const fn name(self) -> &'static str {
        match self {
            Self::Known => "Noise_IK_25519_ChaChaPoly_SHA256",
            Self::Enrol => "Noise_XXpsk3_25519_ChaChaPoly_SHA256",
        }
    }

    /// Returns the pattern and the message number in the head of a handshake frame.
    pub(crate) fn of(head: Head) -> Option<(Self, u8)> {
        let [step, pattern, 0, 0] = head.sequence.to_le_bytes() else {
            return None;
        };
        match pattern {
            1 => Some((Self::Known, step)),
            2 => Some((Self::Enrol, step)),
            _ => None,
        }
    }

    /// Returns the head of a handshake frame.
    pub(crate) const fn head(self, session: u32, step: u8) -> Head {
        Head {
            direction: Direction::Handshake,
            session,
            sequence: u32::from_le_bytes([step, self as u8, 0, 0]),
        }
    }
}

/// A handshake in progress.
pub(crate) struct Handshake {
    state: HandshakeState,
}

/// The handshake failed: the message is for another key, or was altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl From<snow::Error> for Broken {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

impl Handshake {
    /// Creates the host's side, for a device with a known key.
    pub(crate) fn to_known(secret: &PeerSecret, device: &PeerKey) -> Result<Self, Broken> {
        let builder = Self::builder(Pattern::Known, secret)?.remote_public_key(&device.0)?;
        let state = builder.build_initiator()?;
        Ok(Self { state })
    }

    /// Creates the host's side of a first contact.
    pub(crate) fn to_enrol(secret: &PeerSecret, psk: &[u8; 32]) -> Result<Self, Broken> {
        let builder = Self::builder(Pattern::Enrol, secret)?.psk(PSK, psk)?;
        let state = builder.build_initiator()?;
        Ok(Self { state })
    }

    /// Creates the device's side. Only [`Pattern::Enrol`] uses `psk`.
    pub(crate) fn of_device(pattern: Pattern, secret: &PeerSecret, psk: &[u8; 32]) -> Result<Self, Broken> {
        let mut builder = Self::builder(pattern, secret)?;
        if pattern == Pattern::Enrol {
            builder = builder.psk(PSK, psk)?;
        }
        let state = builder.build_responder()?;
        Ok(Self { state })
    }

    fn builder(pattern: Pattern, secret: &PeerSecret) -> Result<Builder<'_>, Broken> {
        let builder = Builder::new(pattern.name().parse()?);
        Ok(builder.local_private_key(secret.bytes())?.prologue(PROLOGUE)?)
    }

    /// Returns the next message of this end.
    pub(crate) fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut message = vec![0; MAX_MESSAGE];
        let length = self.state.write_message(payload, &mut message)?;
        message.truncate(length);
        Ok(message)
    }

    /// Processes a message of the peer, and returns its payload.
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        if message.len() > MAX_MESSAGE {
            return Err(Broken);
        }
        let mut payload = vec![0; MAX_MESSAGE];
        let length = self.state.read_message(message, &mut payload)?;
        payload.truncate(length);
        Ok(payload)
    }

    /// Returns the peer's key, once received.
    pub(crate) fn peer(&self) -> Option<PeerKey> {
        self.state.get_remote_static()?.try_into().ok().map(PeerKey)
    }

    pub(crate) fn finish(self) -> Result<Transport, Broken> {
        Ok(Transport::new(self.state.into_stateless_transport_mode()?))
    }
}
