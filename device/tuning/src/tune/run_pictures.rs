//! The pictures of a run: which are learned, which replay old classes, and which judge.

use std::collections::HashMap;

use clr_adapters::Header;
use clr_onnx::RgbImage;

use crate::{
    Parent,
    error::{Result, TuneError},
    examples::{Example, Examples, split_examples},
    pictures::Picture,
};

/// The pictures of a run, decoded.
pub(super) struct RunPictures {
    pub(super) learned: Vec<Picture>,
    pub(super) replayed: Vec<Picture>,
    pub(super) held_learned: Vec<Picture>,
    pub(super) held_old: Vec<Picture>,
    /// The publisher's, with their classes.
    pub(super) canaries: Vec<Picture>,
    pub(super) without_holdout: Vec<String>,
}

impl RunPictures {
    pub(super) fn load(parent: &Parent, examples: &dyn Examples, list: Vec<Example>) -> Result<Self> {
        let header = &parent.adapter.header;
        let class = |example: &Example| {
            let label = example.label.as_ref()?;
            header.labels.iter().position(|known| known == label)
        };
        // One damaged file must not keep a task from learning, and what cannot be decoded judges nothing.
        let mut loaded = HashMap::new();
        let mut readable = Vec::with_capacity(list.len());
        for example in list {
            match Picture::load(examples, &example, class(&example), &header.preprocessing) {
                Ok(picture) => _ = loaded.insert(example.id, picture),
                Err(error @ TuneError::Picture { .. }) => {
                    tracing::warn!("left out: {error}");
                    continue;
                }
                Err(error) => return Err(error),
            }
            readable.push(example);
        }
        let split = split_examples(readable);
        let all = split.training.iter().chain(&split.held_out);
        // Where no class is new, those with pictures are refined.
        let new = all.clone().filter_map(class).any(|class| class >= parent.protected);
        let learned = |class: Option<usize>| class.is_some_and(|class| !new || class >= parent.protected);
        let mut pictures = Self {
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
                    (true, true) => &mut pictures.learned,
                    (true, false) => &mut pictures.held_learned,
                    (false, true) => &mut pictures.replayed,
                    (false, false) => &mut pictures.held_old,
                };
                place.extend(loaded.remove(&example.id));
            }
        }
        pictures.without_holdout = split.without_holdout;
        if pictures.learned.is_empty() {
            return Err(TuneError::NoExamples {
                task: header.task.clone(),
            });
        }
        Ok(pictures)
    }
}

fn canaries(header: &Header) -> Vec<Picture> {
    let canaries = header.canaries.iter().filter_map(|canary| {
        let [width, height] = canary.size.map(u32::from);
        let pixels = RgbImage::from_raw(width, height, canary.pixels.clone())?;
        Some(Picture::new(
            &pixels,
            Some(canary.class as usize),
            &header.preprocessing,
            0,
        ))
    });
    canaries.collect()
}
