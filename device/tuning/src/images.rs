//! Decoded training images at the network's input size, and their augmented variants.

use clr_adapters::{Digest, Preprocessing};
use clr_learning::{Augmentation, Flip, Purpose, stream};
use clr_onnx::{ImageView, Preprocess as _, RgbImage};

use crate::{
    error::{Result, TuneError},
    examples::{Example, Examples},
};

/// Number of variants of a training image: the image itself, and augmented ones. It is small, so that the activations
/// before the first trained site can be cached for each variant.
pub(crate) const VARIANTS: u64 = 8;

/// Small crops, rotations and changes of colour. Images are never mirrored, because letters and signs have an
/// orientation.
const CHANGES: Augmentation = Augmentation {
    flip: Flip::Off,
    area: 0.8,
    ..Augmentation::MILD
};

/// A decoded image.
pub(crate) struct Image {
    /// Pixels at the size of the network's input.
    pub(crate) pixels: RgbImage,
    /// The image's class; `None` for an unlabelled frame.
    pub(crate) class: Option<usize>,
    /// Seed of its variants.
    address: u64,
}

impl Image {
    pub(crate) fn load(
        examples: &dyn Examples,
        example: &Example,
        class: Option<usize>,
        preprocessing: &Preprocessing,
    ) -> Result<Self> {
        let bytes = examples.read(&example.id).map_err(TuneError::Examples)?;
        let label = example.label.clone().unwrap_or_else(|| "unlabelled".to_owned());
        let decoded = examples.decode(&bytes, &label, preprocessing);
        let image = decoded.map_err(|reason| TuneError::Image {
            id: example.id,
            label,
            reason,
        })?;
        Ok(Self::new(&image, class, preprocessing, address(example.id)))
    }

    pub(crate) fn new<'a>(
        image: impl Into<ImageView<'a>>,
        class: Option<usize>,
        preprocessing: &Preprocessing,
        address: u64,
    ) -> Self {
        Self {
            pixels: preprocessing.fit(image),
            class,
            address,
        }
    }

    /// Returns a preprocessed variant `[3, H, W]`. Variant 0 is the image itself.
    pub(crate) fn variant(&self, variant: u64, seed: u64, preprocessing: &Preprocessing) -> Vec<f32> {
        let mut input = vec![0.0; 3 * self.pixels.width() as usize * self.pixels.height() as usize];
        if variant == 0 {
            preprocessing.to_tensor(&self.pixels, &mut input);
        } else {
            let mut random = stream(seed, Purpose::Augment, variant, self.address);
            preprocessing.to_tensor(&CHANGES.apply(&self.pixels, &mut random), &mut input);
        }
        input
    }
}

fn address(id: Digest) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(bytes)
}
