//! Encrypted, mutually authenticated sessions: version 2 of the protocol.
//!
//! The handshake is Noise by `snow` with the prologue `clr/2`. Known hosts use `Noise_IK_25519_ChaChaPoly_SHA256`. A
//! first contact uses `Noise_XXpsk3_25519_ChaChaPoly_SHA256` with a code that the device displays. After the handshake,
//! every frame is sealed with the counter of its direction. Byte maps: `docs/reference/update-protocol.md`.

mod channel;
mod code;
mod handshake;
mod key;
mod transport;

pub(crate) use self::{
    channel::handshake_frame,
    handshake::{Handshake, Pattern},
    transport::Transport,
};
pub use self::{
    channel::{Admission, Channel},
    code::{CodeError, EnrolmentCode},
    key::{PeerKey, PeerKeyError, PeerSecret},
};

/// Version of the protocol within an encrypted session.
pub const SECURE_VERSION: u16 = 2;
/// Maximum bytes of a chunk in an encrypted session: a Noise message has at most 65,535 bytes.
pub const MAX_SECURE_CHUNK: u32 = 65_024;
/// Maximum bytes of a body before sealing.
pub(crate) const MAX_PLAIN: usize = 65_535 - transport::TAG;
