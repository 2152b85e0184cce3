//! A buffer of images of earlier batches, filled by reservoir sampling (Vitter 1985).

use std::sync::Arc;

use candle_core::{Device, Tensor};
use clr_onnx::RgbImage;
use rand::{RngExt as _, seq::index::sample};

use crate::{
    error::{ContinualError, Result},
    images::{Example, augmented},
    random::{Purpose, stream},
    saved::{Kept, KeptImage, check},
    task::{Batch, Task},
};

/// An image in a buffer.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The image without augmentation, with its class.
    pub example: Example,
    /// Its task.
    pub task: usize,
    /// Logits at the moment of storing, or nothing.
    pub logits: Vec<f32>,
}

/// A buffer with room for a number of images.
pub struct Buffer {
    capacity: usize,
    offers: u64,
    stored: Vec<Stored>,
}

impl Buffer {
    /// Creates an empty buffer.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            offers: 0,
            stored: Vec::new(),
        }
    }

    /// Returns the images in it.
    pub fn stored(&self) -> &[Stored] {
        &self.stored
    }

    pub(crate) fn save(&self) -> Kept {
        let images = self.stored.iter().map(|stored| KeptImage {
            pixels: stored.example.image.as_raw().clone(),
            size: [stored.example.image.width(), stored.example.image.height()],
            label: stored.example.label,
            task: stored.task as u32,
            logits: stored.logits.clone(),
        });
        Kept {
            images: images.collect(),
            numbers: vec![self.offers],
            vectors: Vec::new(),
        }
    }

    pub(crate) fn restore(&mut self, kept: Kept) -> Result<()> {
        check("numbers of a buffer", 1, kept.numbers.len())?;
        self.offers = kept.numbers[0];
        let stored = kept.images.into_iter().map(|kept| {
            let [width, height] = kept.size;
            let bytes = kept.pixels.len();
            let image = RgbImage::from_raw(width, height, kept.pixels).ok_or_else(|| ContinualError::Mismatch {
                what: "an image of a buffer",
                expected: format!("{width} × {height} pixels"),
                got: format!("{bytes} bytes"),
            })?;
            Ok(Stored {
                example: Example {
                    image: Arc::new(image),
                    label: kept.label,
                },
                task: kept.task as usize,
                logits: kept.logits,
            })
        });
        self.stored = stored.collect::<Result<_>>()?;
        Ok(())
    }

    /// Returns the number of bytes of its images and logits.
    pub fn bytes(&self) -> usize {
        let of = |stored: &Stored| stored.example.image.as_raw().len() + 4 * stored.logits.len();
        self.stored.iter().map(of).sum()
    }

    /// Offers an image: each of n offers is in the buffer with the same probability. Every presentation of an image is
    /// an offer, so an image can be in the buffer several times.
    pub fn offer(&mut self, seed: u64, image: impl FnOnce() -> Stored) {
        let offer = self.offers;
        self.offers += 1;
        if self.stored.len() < self.capacity {
            self.stored.push(image());
            return;
        }
        if let Some(place) = self.stored.get_mut(Self::place(seed, offer) as usize) {
            *place = image();
        }
    }

    /// Returns the place that offer number `offer` takes in a full buffer, if the buffer has as many.
    pub(crate) fn place(seed: u64, offer: u64) -> u64 {
        stream(seed, Purpose::Offer, 0, 0, offer).random_range(0..=offer)
    }

    /// Draws up to `count` different places of the buffer. `draw` tells several draws of one step apart.
    pub(crate) fn draw(&self, count: usize, task: &Task<'_>, batch: &Batch<'_>, draw: u64) -> Vec<Stored> {
        let places = Self::places(task.seed, task.index, batch, draw, self.stored.len(), count);
        places.into_iter().map(|place| self.stored[place].clone()).collect()
    }

    /// Returns the places of a draw from a buffer with `stored` images.
    pub(crate) fn places(
        seed: u64,
        task: usize,
        batch: &Batch<'_>,
        draw: u64,
        stored: usize,
        count: usize,
    ) -> Vec<usize> {
        let mut random = stream(seed, Purpose::Draw, task, batch.epoch, 2 * batch.step + draw);
        sample(&mut random, stored, count.min(stored)).into_vec()
    }
}

/// Augments and preprocesses drawn images, `[N, 3, H, W]`.
pub(crate) fn augmented_draw(
    drawn: &[Stored],
    task: &Task<'_>,
    batch: &Batch<'_>,
    draw: u64,
    device: &Device,
) -> Result<Tensor> {
    let images = (0_u64..).zip(drawn).map(|(row, stored)| {
        // Training images of the task have numbers below 2³².
        let index = (1 << 32) + (2 * batch.step + draw) * 1024 + row;
        let random = stream(task.seed, Purpose::Augment, task.index, batch.epoch, index);
        (&*stored.example.image, random)
    });
    augmented(task.train.preprocessing(), task.augmentation, images, device)
}
