//! Messages of both directions. Parsing limits every size and rejects trailing data.
//!
//! The order of the variants is the wire format (postcard numbers them from 0): new ones are appended, none is removed.

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
/// Minimum bytes of a chunk, reached on a noisy line.
pub const MIN_CHUNK: u32 = 64;
/// Maximum UTF-8 bytes of a task's name.
pub const MAX_TASK: usize = 128;
/// Maximum UTF-8 bytes of a label.
pub const MAX_LABEL: usize = 256;

/// Kind of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// A complete adapter file.
    Adapter,
    /// A delta from a file of the device to an adapter file.
    Delta {
        /// The base file on the device.
        base: Digest,
        /// The resulting file.
        target: Digest,
        /// Its length in bytes.
        length: u64,
    },
    /// A labelled image for teaching, as a PNG or JPEG file.
    Example {
        /// The task.
        task: String,
        /// The class that the image shows.
        label: String,
    },
    /// A complete adapter file, announced by its publisher: the device verifies the announcement before it accepts a
    /// byte.
    Release(Box<SignedRelease>),
    /// A delta, with the announcement of the resulting file.
    ReleaseDelta {
        /// The base file on the device.
        base: Digest,
        /// The resulting file; its length is in the announcement.
        target: Digest,
        /// The announcement of that file.
        release: Box<SignedRelease>,
    },
}

impl Kind {
    /// Returns the kind of a complete adapter file: announced if the file has a release statement.
    #[must_use]
    pub fn of_file(file: &[u8]) -> Self {
        match SignedRelease::of_file(file, &Limits::DEFAULT) {
            Ok(Some(release)) => Self::Release(Box::new(release)),
            _ => Self::Adapter,
        }
    }

    /// Returns the kind of a delta that produces `target`: announced if that file has a release statement.
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

    /// Returns the kind without its announcement, for devices that do not know announcements; `None` without one.
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

    /// Returns the bytes of the file that a delta produces.
    #[must_use]
    pub fn made_bytes(&self) -> Option<u64> {
        match self {
            Self::Delta { length, .. } => Some(*length),
            Self::ReleaseDelta { release, .. } => Some(release.file_bytes()),
            _ => None,
        }
    }
}

/// Beginning of a transfer: digest, length and kind of the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Their number.
    pub length: u64,
    /// Their kind.
    pub kind: Kind,
}

/// Slot of a task's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Slot {
    /// The serving one: on trial if there is one, else confirmed.
    #[default]
    Serving,
    /// The confirmed one.
    Confirmed,
    /// The one on trial.
    OnTrial,
    /// The one confirmed before.
    LastGood,
    /// The publisher's original of a tuned adapter.
    Original,
}

/// Result of a committed transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Committed {
    /// An adapter was installed, now or before.
    Adapter {
        /// Its task.
        task: String,
        /// Its version.
        version: u64,
        /// The installed file.
        #[serde(with = "crate::digest_text")]
        digest: Digest,
        /// Frames of its trial; 0 if it is confirmed.
        trial_frames: u32,
    },
    /// An image was added.
    Example {
        /// Its task.
        task: String,
        /// Its label.
        label: String,
        /// Whether it existed already.
        duplicate: bool,
    },
}

/// A file of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullInfo {
    /// Its SHA-256.
    #[serde(with = "crate::digest_text")]
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// Optional capabilities of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// It accepts deltas.
    pub delta: bool,
    /// It accepts labelled images.
    pub examples: bool,
    /// It can tune.
    pub tuning: bool,
}

/// A device's reply to `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its name.
    pub device: String,
    /// Version of its software.
    pub software: String,
    /// The backbone that it runs.
    #[serde(with = "crate::digest_text")]
    pub backbone: Digest,
    /// Its capabilities.
    pub capabilities: Capabilities,
}

/// Data as bytes, not as a sequence of numbers.
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
