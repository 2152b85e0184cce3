//! Labelled images and their split into training and held-out ones.

use std::collections::BTreeMap;

use clr_adapters::{Digest, Preprocessing};
use clr_onnx::ReducedImage;

/// A stored image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// SHA-256 of the encoded image.
    pub id: Digest,
    /// The class. `None` for an unlabelled frame: its target is the parent's output.
    pub label: Option<String>,
}

/// A source of labelled images: a store, a folder, memory.
pub trait Examples {
    /// Lists all images, in any order.
    fn list(&self) -> Result<Vec<Example>, String>;

    /// Returns the encoded image (PNG, JPEG, BMP, WebP or GIF).
    fn read(&self, id: &Digest) -> Result<Vec<u8>, String>;

    /// Decodes an encoded image for an input; `name` is for messages. The default applies the host's limits.
    fn decode(&self, bytes: &[u8], name: &str, input: &Preprocessing) -> Result<ReducedImage, String> {
        clr_onnx::decode_image_bytes_for(bytes, name, &[input]).map_err(|error| error.to_string())
    }
}

/// Images in memory.
#[derive(Clone, Debug, Default)]
pub struct InMemory(BTreeMap<Digest, (Option<String>, Vec<u8>)>);

impl InMemory {
    /// Adds `image` with `label`; the same bytes again replace the label. Returns whether they are new.
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

/// Examples, split. Both groups are sorted by label, then id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExampleSplit {
    /// Training images.
    pub training: Vec<Example>,
    /// Held-out images.
    pub held_out: Vec<Example>,
    /// Classes with a single image, none of which is held out.
    pub without_holdout: Vec<String>,
}

/// Holds out a fifth of each class, at least one image of two or more. Held out are the images with the smallest
/// digests, so the split is the same on every device, and an added image moves others only where the fractions require
/// it.
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
