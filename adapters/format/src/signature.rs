//! Signatures of adapter files: Ed25519 (RFC 8032) over the raw bytes before the trailer. Publishers sign a statement
//! instead: see [`crate::Release`].

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{PublicKey, SecretKey};

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
    /// Signs bytes.
    pub(crate) fn of(signed: &[u8], class: SignerClass, key: &SecretKey) -> Self {
        Self {
            class,
            key: key.public(),
            bytes: key.sign(&message(class, signed)),
        }
    }

    /// Returns whether the signature is valid for these signed bytes.
    pub(crate) fn holds(&self, signed: &[u8]) -> bool {
        self.key.verifies(&message(self.class, signed), &self.bytes)
    }
}

fn message(class: SignerClass, signed: &[u8]) -> Vec<u8> {
    [class.domain(), signed].concat()
}
