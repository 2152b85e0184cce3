//! Signatures of adapter files: Ed25519 (RFC 8032) over the raw bytes before the trailer. Publishers sign a statement
//! instead: see [`crate::Release`].

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{DecodeError, Limits, PublicKey, SecretKey, envelope};

/// Class of a signer. The signed bytes include the class: a device's signature is never valid as a publisher's, even
/// with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum SignerClass {
    /// A sender of adapters to devices.
    Publisher = 1,
    /// A device that signs adapters tuned by itself.
    Device = 2,
}

impl SignerClass {
    /// Returns the name used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Device => "device",
        }
    }

    pub(crate) const fn from_kind(kind: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Publisher),
            2 => Some(Self::Device),
            _ => None,
        }
    }

    const fn domain(self) -> &'static [u8] {
        match self {
            Self::Publisher => b"clr adapter, publisher\0",
            Self::Device => b"clr adapter, device\0",
        }
    }
}

impl core::fmt::Display for SignerClass {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// The claimed signature of a file, not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The class of signer.
    pub class: SignerClass,
    /// The signer's public key.
    pub key: PublicKey,
    /// The Ed25519 signature.
    pub bytes: [u8; 64],
}

impl Signature {
    /// Returns whether the signature is valid for these signed bytes.
    pub(crate) fn holds(&self, signed: &[u8]) -> bool {
        self.key.verifies(&message(self.class, signed), &self.bytes)
    }
}

fn message(class: SignerClass, signed: &[u8]) -> Vec<u8> {
    [class.domain(), signed].concat()
}

/// Signs a file's bytes before the trailer, for adapters tuned on a device, and replaces an existing signature. A
/// publisher uses [`crate::sign_release`], which also states the audience and allows a device to verify an upload
/// before it arrives. The signed bytes, and with them the adapter, stay the same. The file's digest changes, because it
/// includes the trailer.
///
/// # Errors
/// As the envelope in [`crate::decode`].
pub fn sign(file: &[u8], class: SignerClass, key: &SecretKey) -> Result<Vec<u8>, DecodeError> {
    let envelope = envelope::open(file, &Limits::DEFAULT)?;
    let signature = Signature {
        class,
        key: key.public(),
        bytes: key.sign(&message(class, envelope.signed)),
    };
    Ok(envelope::close(
        envelope.signed.to_vec(),
        class as u8,
        &[&signature.key.0[..], &signature.bytes[..]].concat(),
    ))
}

/// Returns the signature of a file, without decoding the rest and without verification.
///
/// # Errors
/// As the envelope in [`crate::decode`].
pub fn signature(file: &[u8], limits: &Limits) -> Result<Option<Signature>, DecodeError> {
    Ok(envelope::open(file, limits)?.signature)
}
