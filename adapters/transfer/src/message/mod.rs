//! Messages of both directions. The parsers limit every size and reject trailing data.
//!
//! The order of the variants is the wire format, because postcard numbers them from 0. New variants are appended, and
//! none is ever removed.

mod fault;
mod request;
mod response;

use alloc::{boxed::Box, string::String};
use core::ops::RangeInclusive;

use clr_adapters::{Digest, Limits, SignedRelease};
use serde::{Deserialize, Serialize, Serializer};

pub use self::{fault::MessageFault, request::Request, response::Response};

/// Supported protocol versions.
pub const VERSIONS: RangeInclusive<u16> = 1..=1;
/// Maximum bytes of a chunk.
pub const MAX_CHUNK: u32 = 64 << 10;
/// Minimum bytes of a chunk, used on noisy lines.
pub const MIN_CHUNK: u32 = 64;
/// Maximum UTF-8 bytes of a task's name.
pub const MAX_TASK: usize = 128;
/// Maximum number of tasks in a group.
pub const MAX_GROUP: usize = 16;
/// Maximum UTF-8 bytes of a label.
pub const MAX_LABEL: usize = 256;

/// Kind of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// A complete adapter file.
    Adapter,
    /// A delta from a file on the device to a new adapter file.
    Delta {
        /// The base file on the device.
        base: Digest,
        /// The resulting file.
        target: Digest,
        /// Length of the resulting file, in bytes.
        length: u64,
    },
    /// A labelled image for teaching, as a PNG or JPEG file.
    Example {
        /// The task.
        task: String,
        /// The class that the image shows.
        label: String,
    },
    /// A complete adapter file with its publisher's announcement. The device verifies the announcement before it
    /// accepts any byte of the file.
    Release(Box<SignedRelease>),
    /// A delta with the announcement of the file that it produces.
    ReleaseDelta {
        /// The base file on the device.
        base: Digest,
        /// Digest of the resulting file; the announcement states its length.
        target: Digest,
        /// The announcement of the resulting file.
        release: Box<SignedRelease>,
    },
}

impl Kind {
    /// Returns the kind of transfer for a complete adapter file: announced if the file has a release statement.
    #[must_use]
    pub fn of_file(file: &[u8]) -> Self {
        match SignedRelease::of_file(file, &Limits::DEFAULT) {
            Ok(Some(release)) => Self::Release(Box::new(release)),
            _ => Self::Adapter,
        }
    }

    /// Returns the kind of transfer for a delta to `target`: announced if `target` has a release statement.
    #[must_use]
    pub fn of_delta(base: Digest, target: &[u8]) -> Self {
        let digest = Digest::of(target);
        match SignedRelease::of_file(target, &Limits::DEFAULT) {
            Ok(Some(release)) => Self::ReleaseDelta {
                base,
                target: digest,
                release: Box::new(release),
            },
            _ => Self::Delta {
                base,
                target: digest,
                length: target.len() as u64,
            },
        }
    }

    /// Returns the same kind of transfer without an announcement, for devices that do not support announcements; `None`
    /// if this kind has none.
    #[must_use]
    pub fn unannounced(&self) -> Option<Self> {
        match self {
            Self::Release(_) => Some(Self::Adapter),
            Self::ReleaseDelta { base, target, release } => Some(Self::Delta {
                base: *base,
                target: *target,
                length: release.file_bytes(),
            }),
            _ => None,
        }
    }

    /// Returns the length of the file that the delta produces, in bytes.
    #[must_use]
    pub fn made_bytes(&self) -> Option<u64> {
        match self {
            Self::Delta { length, .. } => Some(*length),
            Self::ReleaseDelta { release, .. } => Some(release.file_bytes()),
            _ => None,
        }
    }
}

/// Beginning of a transfer: digest, length and kind of the sent bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// SHA-256 of the sent bytes.
    pub digest: Digest,
    /// Number of sent bytes.
    pub length: u64,
    /// Kind of the transfer.
    pub kind: Kind,
}

/// Slot of a task's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Slot {
    /// The serving adapter: the one on trial if there is one, otherwise the confirmed one.
    #[default]
    Serving,
    /// The confirmed adapter.
    Confirmed,
    /// The adapter on trial.
    OnTrial,
    /// The previously confirmed adapter.
    LastGood,
    /// The publisher's original of an adapter tuned on the device.
    Original,
}

/// Result of a committed transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Committed {
    /// An adapter was installed, now or before.
    Adapter {
        /// Task of the adapter.
        task: String,
        /// Version of the adapter.
        version: u64,
        /// Digest of the installed file.
        #[serde(with = "crate::digest_text")]
        digest: Digest,
        /// Number of trial frames; 0 if the adapter is confirmed.
        trial_frames: u32,
    },
    /// An image was added.
    Example {
        /// Task of the image.
        task: String,
        /// Label of the image.
        label: String,
        /// Whether the image was already stored with this label.
        duplicate: bool,
    },
}

/// A file of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullInfo {
    /// SHA-256 of the file.
    #[serde(with = "crate::digest_text")]
    pub digest: Digest,
    /// Length of the file in bytes.
    pub length: u64,
}

/// Optional capabilities of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The device accepts deltas.
    pub delta: bool,
    /// The device accepts labelled images.
    pub examples: bool,
    /// The device can tune.
    pub tuning: bool,
}

/// A device's reply to `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// The device's name.
    pub device: String,
    /// Version of the device's software.
    pub software: String,
    /// Digest of the device's backbone.
    #[serde(with = "crate::digest_text")]
    pub backbone: Digest,
    /// The device's capabilities.
    pub capabilities: Capabilities,
}

/// Serialises data as bytes, not as a sequence of numbers.
fn as_bytes<S: Serializer>(data: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(data)
}

impl Begin {
    fn check(&self) -> Result<(), MessageFault> {
        if let Kind::Example { task, label } = &self.kind {
            fault::name("task", task, MAX_TASK)?;
            fault::name("label", label, MAX_LABEL)?;
        }
        Ok(())
    }
}
