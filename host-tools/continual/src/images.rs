//! Images of a task at input size, with their classes.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use clr_adapters::Preprocessing;
use clr_onnx::{Preprocess as _, RgbImage};
use clr_training::{Augmentation, SplitImages};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;

/// An image at input size, in 8-bit RGB, with its class.
#[derive(Clone, Debug)]
pub struct Example {
    /// `height × width`.
    pub image: Arc<RgbImage>,
    /// Index of its class.
    pub label: u32,
}

/// The images of a split in memory. Clones share the images.
#[derive(Clone)]
pub struct Images {
    preprocessing: Preprocessing,
    examples: Vec<Example>,
}

impl Images {
    /// Creates a set of images at the size of `preprocessing`.
    pub fn new(preprocessing: Preprocessing, examples: Vec<Example>) -> Self {
        Self {
            preprocessing,
            examples,
        }
    }

    /// Copies all images of a split into memory.
    ///
    /// # Errors
    /// [`ContinualError::Training`](crate::ContinualError::Training) if an image cannot be read.
    pub fn of_split(split: &SplitImages) -> Result<Self> {
        let examples = (split.samples().iter().enumerate()).map(|(index, sample)| {
            Ok(Example {
                image: Arc::new(split.image(index)?.into_owned()),
                label: sample.class as u32,
            })
        });
        Ok(Self::new(
            split.preprocessing().clone(),
            examples.collect::<Result<_>>()?,
        ))
    }

    /// Returns the images.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// Returns the preprocessing.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Returns the preprocessed images of these indices, `[N, 3, H, W]`.
    ///
    /// # Errors
    /// [`ContinualError::Tensor`](crate::ContinualError::Tensor) if there is not enough memory.
    pub fn tensor(&self, indices: &[usize], device: &Device) -> Result<Tensor> {
        let images = indices.iter().map(|&index| &*self.examples[index].image);
        preprocessed(&self.preprocessing, images, device)
    }

    /// Returns the classes of these indices.
    pub fn labels(&self, indices: &[usize]) -> Vec<u32> {
        indices.iter().map(|&index| self.examples[index].label).collect()
    }
}

/// Preprocesses images, `[N, 3, H, W]`.
pub(crate) fn preprocessed<'a>(
    preprocessing: &Preprocessing,
    images: impl IntoIterator<Item = &'a RgbImage>,
    device: &Device,
) -> Result<Tensor> {
    let [height, width] = [preprocessing.height, preprocessing.width].map(|side| side as usize);
    let (mut values, mut count) = (Vec::new(), 0);
    for image in images {
        let start = values.len();
        values.resize(start + 3 * height * width, 0.0);
        preprocessing.to_tensor(image, &mut values[start..]);
        count += 1;
    }
    Ok(Tensor::from_vec(values, (count, 3, height, width), device)?)
}

/// Augments images, each with its own random stream, and preprocesses them.
pub(crate) fn augmented<'a>(
    preprocessing: &Preprocessing,
    augmentation: &Augmentation,
    images: impl IntoIterator<Item = (&'a RgbImage, ChaCha8Rng)>,
    device: &Device,
) -> Result<Tensor> {
    let changed: Vec<RgbImage> = images
        .into_iter()
        .map(|(image, mut random)| {
            if augmentation.is_none() {
                image.clone()
            } else {
                augmentation.apply(image, &mut random)
            }
        })
        .collect();
    preprocessed(preprocessing, &changed, device)
}
