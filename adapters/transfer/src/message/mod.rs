//! The messages, both ways, and how they are read: every size capped, nothing left over behind them.
//!
//! The order of the variants is the wire format (postcard numbers them from 0): new ones go to the end, none is taken out.

mod fault;
mod request;
mod response;

use alloc::{boxed::Box, string::String};
use core::ops::RangeInclusive;

use clr_adapters::{Digest, Limits, SignedRelease};
use serde::{Deserialize, Serialize, Serializer};

pub use self::{fault::MessageFault, request::Request, response::Response};

/// Protocol versions that this crate speaks.
pub const VERSIONS: RangeInclusive<u16> = 1..=1;
/// The largest chunk in bytes.
pub const MAX_CHUNK: u32 = 64 << 10;
/// The smallest chunk in bytes; a noisy line brings chunks down to this.
pub const MIN_CHUNK: u32 = 64;
/// UTF-8 bytes of a task's name.
pub const MAX_TASK: usize = 128;
/// UTF-8 bytes of a label.
pub const MAX_LABEL: usize = 256;

/// What is being sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// A whole adapter file.
    Adapter,
    /// A delta that turns a file which the device has into an adapter file.
    Delta {
        /// The file that the device has.
        base: Digest,
        /// The file that comes out.
        target: Digest,
        /// Its length in bytes.
        length: u64,
    },
    /// An image to learn from, as a PNG or JPEG file.
    Example {
        /// The task.
        task: String,
        /// What the image shows.
        label: String,
    },
    /// A complete adapter file, announced by its publisher: the device verifies that before it takes a byte.
    Release(Box<SignedRelease>),
    /// A delta, with the announcement of the file that comes out.
    ReleaseDelta {
        /// The file that the device has.
        base: Digest,
        /// The file that comes out; its length is in the announcement.
        target: Digest,
        /// The announcement of that file.
        release: Box<SignedRelease>,
    },
}

impl Kind {
    /// The kind of a complete adapter file: announced if the file has a release statement.
    #[must_use]
    pub fn of_file(file: &[u8]) -> Self {
        match SignedRelease::of_file(file, &Limits::DEFAULT) {
            Ok(Some(release)) => Self::Release(Box::new(release)),
            _ => Self::Adapter,
        }
    }

    /// The kind of a delta that gives `target`: announced if that file has a release statement.
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

    /// The same without its announcement, for devices that do not know announcements; `None` if it has none.
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

    /// Bytes of the file that a delta produces.
    #[must_use]
    pub fn made_bytes(&self) -> Option<u64> {
        match self {
            Self::Delta { length, .. } => Some(*length),
            Self::ReleaseDelta { release, .. } => Some(release.file_bytes()),
            _ => None,
        }
    }
}

/// What a transfer is about: the bytes on their way, by digest and length, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// SHA-256 of the bytes that are sent.
    pub digest: Digest,
    /// How many.
    pub length: u64,
    /// What they are.
    pub kind: Kind,
}

/// Which of a task's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Slot {
    /// The one that answers: on trial if there is one, else confirmed.
    #[default]
    Serving,
    /// The confirmed one.
    Confirmed,
    /// The one on trial.
    OnTrial,
    /// The one confirmed before.
    LastGood,
    /// The publisher's original of what the device tuned.
    Original,
}

/// What a transfer led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Committed {
    /// An adapter was installed (or was there already).
    Adapter {
        /// Its task.
        task: String,
        /// Its version.
        version: u64,
        /// The file that was installed.
        #[serde(with = "crate::digest_text")]
        digest: Digest,
        /// How many frames it has to serve on trial; 0 if it is confirmed.
        trial_frames: u32,
    },
    /// An image was filed.
    Example {
        /// Its task.
        task: String,
        /// Its label.
        label: String,
        /// Whether it was there already.
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

/// What a device can do beyond holding adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// It takes deltas.
    pub delta: bool,
    /// It takes images to learn from.
    pub examples: bool,
    /// It can tune.
    pub tuning: bool,
}

/// A device's answer to `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its name.
    pub device: String,
    /// Version of its software.
    pub software: String,
    /// The backbone that it runs.
    #[serde(with = "crate::digest_text")]
    pub backbone: Digest,
    /// What it can do.
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
