//! The parent adapter of a run, and the revision made from it.

use clr_adapters::{Adapter, Decoded, Digest, Encoding, Provenance, encode};

use crate::error::Result;

/// The adapter from which a run starts.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The adapter.
    pub adapter: Adapter,
    /// SHA-256 of its file.
    pub digest: Digest,
    /// The encoding of its file.
    pub encoding: Encoding,
    /// Number of the publisher's original classes, which are the first ones. Their class weights never change, so only
    /// changed features can change their logits.
    pub protected: usize,
}

impl Parent {
    /// Creates a parent from an adapter file. The classes of `original`, the publisher's adapter, are protected. Pass
    /// `None` for a task that was created on the device. If the file itself is the publisher's, pass its adapter.
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

/// A new revision of an adapter, and its file.
#[derive(Clone, Debug)]
pub struct AdapterRevision {
    /// The adapter as decoded from the file, with quantised values.
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
        let file = encode(&adapter, parent.map_or(Encoding::Compact, |parent| parent.encoding))?;
        let adapter = clr_adapters::decode(&file)?.adapter;
        Ok(Self { adapter, file })
    }
}
