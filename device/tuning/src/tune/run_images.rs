//! Images of a run by role: learned, replayed, held out.

use std::collections::HashMap;

use clr_adapters::Header;
use clr_onnx::RgbImage;

use crate::{
    Parent,
    error::{Result, TuneError},
    examples::{Example, Examples, split_examples},
    images::Image,
};

/// The images of a run, decoded.
pub(super) struct RunImages {
    pub(super) learned: Vec<Image>,
    pub(super) replayed: Vec<Image>,
    pub(super) held_learned: Vec<Image>,
    pub(super) held_old: Vec<Image>,
    /// The publisher's canaries, with their classes.
    pub(super) canaries: Vec<Image>,
    pub(super) without_holdout: Vec<String>,
}

impl RunImages {
    pub(super) fn load(parent: &Parent, examples: &dyn Examples, list: Vec<Example>) -> Result<Self> {
        let header = &parent.adapter.header;
        let class = |example: &Example| {
            let label = example.label.as_ref()?;
            header.labels.iter().position(|known| known == label)
        };
        // One damaged file must not prevent tuning of the task. An image that cannot be decoded is not used for testing
        // either.
        let mut loaded = HashMap::new();
        let mut readable = Vec::with_capacity(list.len());
        for example in list {
            match Image::load(examples, &example, class(&example), &header.preprocessing) {
                Ok(image) => _ = loaded.insert(example.id, image),
                Err(error @ TuneError::Image { .. }) => {
                    tracing::warn!("left out: {error}");
                    continue;
                }
                Err(error) => return Err(error),
            }
            readable.push(example);
        }
        let split = split_examples(readable);
        let all = split.training.iter().chain(&split.held_out);
        // Without a new class, the run refines the classes that have images.
        let new = all.clone().filter_map(class).any(|class| class >= parent.protected);
        let learned = |class: Option<usize>| class.is_some_and(|class| !new || class >= parent.protected);
        let mut images = Self {
            learned: Vec::new(),
            replayed: Vec::new(),
            held_learned: Vec::new(),
            held_old: Vec::new(),
            canaries: canaries(header),
            without_holdout: Vec::new(),
        };
        for (examples_of, is_training) in [(&split.training, true), (&split.held_out, false)] {
            for example in examples_of {
                let place = match (learned(class(example)), is_training) {
                    (true, true) => &mut images.learned,
                    (true, false) => &mut images.held_learned,
                    (false, true) => &mut images.replayed,
                    (false, false) => &mut images.held_old,
                };
                place.extend(loaded.remove(&example.id));
            }
        }
        images.without_holdout = split.without_holdout;
        if images.learned.is_empty() {
            return Err(TuneError::NoExamples {
                task: header.task.clone(),
            });
        }
        Ok(images)
    }
}

fn canaries(header: &Header) -> Vec<Image> {
    let canaries = header.canaries.iter().filter_map(|canary| {
        let [width, height] = canary.size.map(u32::from);
        let pixels = RgbImage::from_raw(width, height, canary.pixels.clone())?;
        Some(Image::new(
            &pixels,
            Some(canary.class as usize),
            &header.preprocessing,
            0,
        ))
    });
    canaries.collect()
}
