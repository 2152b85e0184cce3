//! Labelled images, and which of them are held out.

use std::collections::BTreeMap;

use clr_adapters::{Digest, Preprocessing};
use clr_onnx::ReducedImage;

/// An image that a device keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The digest of the encoded image.
    pub id: Digest,
    /// The class that its owner filed it under. None for a frame that the camera saw and nobody labelled: there, the parent's answer is
    /// what is to be kept.
    pub label: Option<String>,
}

/// Where labelled images come from: a store, a folder, memory.
pub trait Examples {
    /// All images, in any order.
    fn list(&self) -> Result<Vec<Example>, String>;

    /// The encoded image (PNG, JPEG, BMP, WebP or GIF).
    fn read(&self, id: &Digest) -> Result<Vec<u8>, String>;

    /// Decodes an encoded image for an input; `name` is for messages. Within the host's limits where it is not overridden.
    fn decode(&self, bytes: &[u8], name: &str, input: &Preprocessing) -> Result<ReducedImage, String> {
        clr_onnx::decode_image_bytes_for(bytes, name, &[input]).map_err(|error| error.to_string())
    }
}

/// Images in memory.
#[derive(Clone, Debug, Default)]
pub struct InMemory(BTreeMap<Digest, (Option<String>, Vec<u8>)>);

impl InMemory {
    /// Files `image` under `label`; the same bytes again replace the label. Returns whether they are new.
    pub fn add(&mut self, label: Option<&str>, image: Vec<u8>) -> bool {
        let label = label.map(ToOwned::to_owned);
        self.0.insert(Digest::of(&image), (label, image)).is_none()
    }
}

impl Examples for InMemory {
    fn list(&self) -> Result<Vec<Example>, String> {
        let example = |(id, (label, _)): (&Digest, &(Option<String>, Vec<u8>))| Example {
            id: *id,
            label: label.clone(),
        };
        Ok(self.0.iter().map(example).collect())
    }

    fn read(&self, id: &Digest) -> Result<Vec<u8>, String> {
        let found = self.0.get(id).map(|(_, image)| image.clone());
        found.ok_or_else(|| format!("no image {}", id.short()))
    }
}

/// Examples, split. Both parts are in the order of label, then id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExampleSplit {
    /// To learn from.
    pub training: Vec<Example>,
    /// To judge by.
    pub held_out: Vec<Example>,
    /// Classes of which nothing is held out, since they have only one image.
    pub without_holdout: Vec<String>,
}

/// Holds out a fifth of each class, at least one of two or more; a class's only image is learned from. Which ones: those with the
/// smallest digests, so that an image stays where it is when others join, as far as the shares allow, and the answer is the same
/// on every device.
pub fn split_examples(mut examples: Vec<Example>) -> ExampleSplit {
    examples.sort_by(|a, b| (&a.label, a.id).cmp(&(&b.label, b.id)));
    examples.dedup();
    let mut split = ExampleSplit::default();
    for class in examples.chunk_by(|a, b| a.label == b.label) {
        let held = if class.len() < 2 {
            split.without_holdout.extend(class[0].label.clone());
            0
        } else {
            (class.len() / 5).max(1)
        };
        split.held_out.extend_from_slice(&class[..held]);
        split.training.extend_from_slice(&class[held..]);
    }
    split
}
