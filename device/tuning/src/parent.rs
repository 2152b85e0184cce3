//! The adapter that learning starts from.

use clr_adapters::{Adapter, Decoded, Digest, Encoding, Provenance, encode};

use crate::error::Result;

/// The adapter that learning starts from, as it serves now.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The adapter.
    pub adapter: Adapter,
    /// The digest of its file.
    pub digest: Digest,
    /// How its file is coded.
    pub encoding: Encoding,
    /// How many classes, from the first on, the publisher's original knows. Their rows of the head never change: whatever a device
    /// learns, only what an image's features are can move them.
    pub protected: usize,
}

impl Parent {
    /// The adapter of a file. `original` is the publisher's own, where there is one: its classes are protected. None for a task that was
    /// created on the device; for a publisher's file itself, give it twice.
    pub fn new(file: Decoded, original: Option<&Adapter>) -> Self {
        let known = |original: &Adapter| {
            let pairs = original.header.labels.iter().zip(&file.adapter.header.labels);
            pairs.take_while(|(original, own)| original == own).count()
        };
        Self {
            protected: original.map_or(0, known),
            digest: file.digest,
            encoding: file.encoding,
            adapter: file.adapter,
        }
    }
}

/// A new version of an adapter, and its file.
#[derive(Clone, Debug)]
pub struct AdapterRevision {
    /// As the file says: quantised.
    pub adapter: Adapter,
    /// The file, unsigned.
    pub file: Vec<u8>,
}

impl AdapterRevision {
    /// Encodes `adapter` as the next revision after `parent`.
    pub(crate) fn new(mut adapter: Adapter, parent: Option<&Parent>) -> Result<Self> {
        adapter.header.provenance = Provenance::DeviceTuned;
        adapter.header.parent = parent.map(|parent| parent.digest);
        adapter.header.revision = parent.map_or(1, |parent| parent.adapter.header.revision.saturating_add(1));
        let file = encode(&adapter, parent.map_or(Encoding::Int8, |parent| parent.encoding))?;
        let adapter = clr_adapters::decode(&file)?.adapter;
        Ok(Self { adapter, file })
    }
}
