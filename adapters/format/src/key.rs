//! Ed25519 keys (RFC 8032) and their text form.

use alloc::string::String;
use core::{fmt, str::FromStr};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";

/// A public key. Its text form is `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

/// A secret key. It is wiped from memory when dropped, and `Debug` never shows it. Its text form is `ed25519-secret:`
/// and 64 hexadecimal digits, for files that only their owner can read.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// Error for text that is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The prefix is missing.
    #[error(
        "a key starts with `{expected}`\nhint: `clr keygen` writes a pair: the .pub file is for devices, the .key file for the signer"
    )]
    Prefix {
        /// The prefix expected for this kind of key.
        expected: &'static str,
    },
    /// The text does not have 64 hexadecimal digits after the prefix.
    #[error("a key has 64 hexadecimal digits after its colon, got {got} characters, or others among them")]
    Digits {
        /// Number of characters found.
        got: usize,
    },
    /// The bytes are not a point of the curve, or a point of small order, which would accept forged signatures.
    #[error("not a usable Ed25519 public key")]
    Weak,
}

fn digits(text: &str, prefix: &'static str) -> Result<[u8; 32], KeyError> {
    // A byte order mark may have been pasted with the key.
    let rest = text
        .trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}')
        .strip_prefix(prefix)
        .ok_or(KeyError::Prefix { expected: prefix })?;
    let fault = KeyError::Digits {
        got: rest.chars().count(),
    };
    if rest.len() != 64 || !rest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(fault);
    }
    let mut key = [0; 32];
    for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&rest[at..at + 2], 16).map_err(|_| fault)?;
    }
    Ok(key)
}

impl PublicKey {
    /// Returns the first 12 hexadecimal digits.
    #[must_use]
    pub fn short(&self) -> String {
        crate::Digest(self.0).short()
    }

    /// Returns whether `signature` is valid for `message`. Keys of small order and non-canonical signatures are
    /// refused.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = digits(text, PUBLIC)?;
        match VerifyingKey::from_bytes(&key) {
            Ok(point) if !point.is_weak() => Ok(Self(key)),
            _ => Err(KeyError::Weak),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", crate::Digest(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl SecretKey {
    /// Creates a key from 32 secret bytes of a cryptographic random source.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Returns the text form of the secret key. Anyone who has it can sign.
    #[must_use]
    pub fn reveal(&self) -> String {
        alloc::format!("{SECRET}{}", crate::Digest(self.0.to_bytes()))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self::from_bytes(&digits(text, SECRET)?))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}
