//! Refusals of files by a device.

use alloc::{string::String, vec::Vec};

use crate::{DecodeError, Digest, Provenance, PublicKey, SignerClass};

/// Reason for refusing a file, one variant per attack or fault. The refusal does not affect the serving adapter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A size exceeds a cap of this device (TUF: endless data).
    #[error("{what}: {got}, at most {cap} allowed here")]
    TooLarge {
        /// The limited quantity.
        what: &'static str,
        /// The largest permitted size.
        cap: u64,
        /// The size claimed.
        got: u64,
    },
    /// The file is longer or shorter than announced, or than its length fields say.
    #[error("{got} bytes, expected {expected}\nhint: the file was not copied completely; send it again")]
    WrongLength {
        /// Bytes announced.
        expected: u64,
        /// Number of bytes received.
        got: u64,
    },
    /// The digest differs from the announced one.
    #[error("the bytes have the digest {}, announced was {}\nhint: damaged on the way; send it again", got.short(), expected.short())]
    WrongDigest {
        /// The digest announced.
        expected: Digest,
        /// The digest of the received bytes.
        got: Digest,
    },
    /// The bytes are not an adapter.
    #[error(transparent)]
    Malformed(DecodeError),
    /// The file has no signature.
    #[error("the file is not signed\nhint: `clr sign` it with a key that the device trusts")]
    Unsigned,
    /// The file is signed with a key that the device does not trust.
    #[error("the {class} key {} is not trusted here\nhint: add {key} to the device's trusted keys, or sign with one of them", key.short())]
    UnknownKey {
        /// The class of the signature.
        class: SignerClass,
        /// The key that the file names.
        key: PublicKey,
    },
    /// The signature is not valid for these bytes.
    #[error("the signature is not that of key {} over these bytes", key.short())]
    BadSignature {
        /// The key that the file names.
        key: PublicKey,
    },
    /// The device trusts the key, but not for this task.
    #[error("key {} may not speak for task `{task}`\nhint: the device's configuration limits this key to other task names", key.short())]
    TaskNotAllowed {
        /// The key.
        key: PublicKey,
        /// The file's task.
        task: String,
    },
    /// The class of the signature does not match the adapter's origin.
    #[error(
        "a {class}'s signature on revision {revision} of provenance {provenance:?}\nhint: publishers sign revision 0; a device signs only what it tuned"
    )]
    WrongClass {
        /// The signature's class.
        class: SignerClass,
        /// The file's provenance.
        provenance: Provenance,
        /// The file's revision.
        revision: u32,
    },
    /// The file is for another backbone (TUF: mix and match).
    #[error("made for backbone {}, this device runs {}\nhint: train it on the device's backbone", got.short(), expected.short())]
    WrongBackbone {
        /// The device's backbone.
        expected: Digest,
        /// The file's backbone.
        got: Digest,
    },
    /// The file has expired (TUF: freeze).
    #[error("expired at {expires} seconds since 1970, now is {now}")]
    Expired {
        /// Time of expiry, in seconds since 1970-01-01 UTC.
        expires: u64,
        /// The device's time, in the same unit.
        now: u64,
    },
    /// The version is not above the highest one admitted (TUF: rollback).
    #[error(
        "version {got} of task `{task}`: this device has already admitted version {highest_admitted}\nhint: send a version above {highest_admitted}; to go back on the device itself, use `rollback`"
    )]
    Downgrade {
        /// The task.
        task: String,
        /// The highest version admitted.
        highest_admitted: u64,
        /// The file's version.
        got: u64,
    },
    /// This file was already confirmed.
    #[error("version {version} of task `{task}` ({}) was already confirmed here", digest.short())]
    Replay {
        /// The task.
        task: String,
        /// The file's version.
        version: u64,
        /// The file's digest.
        digest: Digest,
    },
    /// The bytes do not match the publisher's release statement.
    #[error("not the bytes that key {} signed: {fault}", key.short())]
    WrongContent {
        /// The key.
        key: PublicKey,
        /// The difference in length or digest.
        fault: DecodeError,
    },
    /// The release statement contradicts the file.
    #[error("the release statement of key {} contradicts the file: {fault}\nhint: sign the file again with `clr sign`", key.short())]
    Contradiction {
        /// The key.
        key: PublicKey,
        /// The difference between statement and file.
        fault: DecodeError,
    },
    /// The file's audience does not include this device.
    #[error(
        "signed for {}, this device is {}\nhint: sign it for one of these names with `clr sign --audience`, or add `audience = [\"…\"]` to the device's configuration",
        Names(audience),
        Names(names)
    )]
    Audience {
        /// The patterns of the release statement.
        audience: Vec<String>,
        /// The device's names.
        names: Vec<String>,
    },
    /// The version is below the minimum in the device's configuration.
    #[error(
        "version {got} of task `{task}`: the device's configuration allows {minimum} and above\nhint: send a version of at least {minimum}, or lower `[trust.minimum]`"
    )]
    BelowMinimum {
        /// The task.
        task: String,
        /// The lowest version allowed.
        minimum: u64,
        /// The file's version.
        got: u64,
    },
}

/// Formats names in backquotes: the first eight, and the number of the others.
struct Names<'a>(&'a [String]);

impl core::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const SHOWN: usize = 8;
        for (index, name) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}`{name}`")?;
        }
        match self.0.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}

impl Refusal {
    /// Returns the refusal's number in the update protocol. Numbers are never reused.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::TooLarge { .. } => 1,
            Self::WrongLength { .. } => 2,
            Self::WrongDigest { .. } => 3,
            Self::Malformed(_) => 4,
            Self::Unsigned => 5,
            Self::UnknownKey { .. } => 6,
            Self::BadSignature { .. } => 7,
            Self::TaskNotAllowed { .. } => 8,
            Self::WrongClass { .. } => 9,
            Self::WrongBackbone { .. } => 10,
            Self::Expired { .. } => 11,
            Self::Downgrade { .. } => 12,
            Self::Replay { .. } => 13,
            Self::WrongContent { .. } => 14,
            Self::Contradiction { .. } => 15,
            Self::Audience { .. } => 16,
            Self::BelowMinimum { .. } => 17,
        }
    }
}
