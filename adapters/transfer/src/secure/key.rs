//! X25519 keys that identify host and device in a session.

use alloc::string::String;
use core::{fmt, str::FromStr};

use snow::{
    params::DHChoice,
    resolvers::{CryptoResolver as _, DefaultResolver},
};

const PREFIX: &str = "x25519:";
const SECRET_PREFIX: &str = "x25519-secret:";

/// Error for text that is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}` and 64 hexadecimal digits")]
pub struct PeerKeyError {
    prefix: &'static str,
}

/// The public key of a host or a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey(pub [u8; 32]);

impl PeerKey {
    /// Returns the first 16 hexadecimal digits, for logs.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = alloc::format!("{}", clr_adapters::Digest(self.0));
        text.truncate(16);
        text
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", clr_adapters::Digest(self.0))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PeerKey {
    type Err = PeerKeyError;

    fn from_str(text: &str) -> Result<Self, PeerKeyError> {
        read(text, PREFIX).map(Self)
    }
}

/// The secret key of a host or device. Its text form belongs in a file that only the owner can read.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerSecret([u8; 32]);

impl PeerSecret {
    /// Creates a secret from 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> PeerKey {
        let mut public = [0; 32];
        // The resolver always provides X25519, the only curve in use.
        if let Some(mut curve) = DefaultResolver.resolve_dh(&DHChoice::Curve25519) {
            curve.set(&self.0);
            public.copy_from_slice(&curve.pubkey()[..32]);
        }
        PeerKey(public)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the secret key as text, to write it to a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        alloc::format!("{SECRET_PREFIX}{}", clr_adapters::Digest(self.0))
    }
}

impl FromStr for PeerSecret {
    type Err = PeerKeyError;

    fn from_str(text: &str) -> Result<Self, PeerKeyError> {
        read(text, SECRET_PREFIX).map(Self)
    }
}

impl fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerSecret(of {})", self.public())
    }
}

fn read(text: &str, prefix: &'static str) -> Result<[u8; 32], PeerKeyError> {
    let wrong = PeerKeyError { prefix };
    let digits = text.trim().strip_prefix(prefix).ok_or(wrong)?.as_bytes();
    let mut key = [0; 32];
    if digits.len() != 64 {
        return Err(wrong);
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| (digit as char).to_digit(16).ok_or(wrong);
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn keys_survive_their_texts_and_the_public_key_is_that_of_rfc_7748() {
        // Section 6.1: Bob.
        let text = "x25519-secret:5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let bob: PeerSecret = text.parse().unwrap();
        assert_eq!(bob.to_text(), text);
        let public = bob.public();
        assert_eq!(
            public.to_string(),
            "x25519:de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
        );
        assert_eq!(public.to_string().parse::<PeerKey>().unwrap(), public);
        assert_eq!(public.short().len(), 16);
        assert!("x25519:12".parse::<PeerKey>().is_err());
        assert!(text.parse::<PeerKey>().is_err(), "a secret key was accepted");
        assert!(!alloc::format!("{bob:?}").contains("5dab087e"));
    }
}
