//! Labelled images, and their split into training and held-out images.

use std::collections::BTreeMap;

use clr_adapters::{Digest, Preprocessing};
use clr_onnx::ReducedImage;

/// A stored image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// SHA-256 of the encoded image.
    pub id: Digest,
    /// The class; `None` for an unlabelled frame, whose target is the parent's output.
    pub label: Option<String>,
}

/// A source of labelled images, such as a store, a folder or memory.
pub trait Examples {
    /// Lists all images, in any order.
    fn list(&self) -> Result<Vec<Example>, String>;

    /// Returns the encoded image (PNG, JPEG, BMP, WebP or GIF).
    fn read(&self, id: &Digest) -> Result<Vec<u8>, String>;

    /// Decodes an encoded image for a network input. `name` is used in messages. The default implementation applies the
    /// host's limits.
    fn decode(&self, bytes: &[u8], name: &str, input: &Preprocessing) -> Result<ReducedImage, String> {
        clr_onnx::decode_image_bytes_for(bytes, name, &[input]).map_err(|error| error.to_string())
    }
}

/// Images in memory.
#[derive(Clone, Debug, Default)]
pub struct InMemory(BTreeMap<Digest, (Option<String>, Vec<u8>)>);

impl InMemory {
    /// Adds `image` with `label`. If the same bytes exist, replaces their label. Returns whether the image is new.
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

/// Examples split into two groups, each sorted by label and then by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExampleSplit {
    /// Training images.
    pub training: Vec<Example>,
    /// Held-out images.
    pub held_out: Vec<Example>,
    /// Classes with a single image, from which none is held out.
    pub without_holdout: Vec<String>,
}

/// Holds out a fifth of each class, and at least one image of a class with two or more. The held-out images are those
/// with the smallest digests, so every device makes the same split. Adding an image moves others only if the fractions
/// require it.
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
