//! Preprocessing from an image file to the input tensor. Training and device use the same implementation, which gives
//! the same bits for the same pixels.

mod configuration;
mod decode;
mod file_kind;
mod fit;
mod frames;
mod image_view;
mod presets;
mod resample;
mod shrink;
mod stated;
#[cfg(test)]
mod tests;

use clr_adapters::{ChannelOrder, Preprocessing};
use image::RgbImage;

pub(crate) use configuration::stated_next_to;
pub use decode::{
    DecodeLimits, DecodedImage, ImageDecoder, ImageError, MAX_IMAGE_PIXELS, decode_hostile, decode_image,
    decode_image_bytes, decode_image_bytes_for, decode_image_for, read_image_file,
};
pub use file_kind::{FILE_HEAD, FileKind};
pub use frames::has_further_images;
pub use image_view::{ImageNotes, ImageView, ReducedImage};
pub use presets::{Preset, efficientnet_lite_preprocessing, imagenet_preprocessing};
pub use shrink::{Shrunk, shrink_to_fit};
pub use stated::{Origin, PreprocessingOrigins, StatedPreprocessing};

/// Executes a [`Preprocessing`]. With integer resampling and one f32 formula per value, the same image gives a
/// bit-identical tensor on every CPU.
pub trait Preprocess {
    /// Returns the image scaled to `height` × `width` pixels. It is resized with the antialiased filter, and cropped if
    /// the preprocessing's `fit` is a crop.
    ///
    /// An image without pixels becomes black.
    fn fit<'a>(&self, image: impl Into<ImageView<'a>>) -> RgbImage;

    /// Writes `(value − mean) / std` as NCHW planes into `out`, `[3, height, width]`. The channel order is that of the
    /// preprocessing.
    ///
    /// # Panics
    /// If `image` does not have `height` × `width` pixels, or `out` does not have `3 · height · width` values. Both are
    /// programming errors.
    fn to_tensor(&self, image: &RgbImage, out: &mut [f32]);

    /// Executes [`fit`](Self::fit) and then [`to_tensor`](Self::to_tensor). Returns `[3, height, width]`.
    fn preprocess<'a>(&self, image: impl Into<ImageView<'a>>) -> Vec<f32>;
}

impl Preprocess for Preprocessing {
    fn fit<'a>(&self, image: impl Into<ImageView<'a>>) -> RgbImage {
        fit::fit(self, image.into())
    }

    fn to_tensor(&self, image: &RgbImage, out: &mut [f32]) {
        assert_eq!(
            image.dimensions(),
            (self.width, self.height),
            "the image has not the input's width and height"
        );
        let plane = self.height as usize * self.width as usize;
        assert_eq!(out.len(), 3 * plane, "the tensor has not the input's size");
        if plane == 0 {
            return;
        }
        for (channel, values) in out.chunks_exact_mut(plane).enumerate() {
            let source = match self.channel_order {
                ChannelOrder::Bgr => 2 - channel,
                _ => channel,
            };
            let table = lookup_table(self.mean[channel], self.std[channel]);
            for (value, pixel) in values.iter_mut().zip(image.as_raw().chunks_exact(3)) {
                *value = table[pixel[source] as usize];
            }
        }
    }

    fn preprocess<'a>(&self, image: impl Into<ImageView<'a>>) -> Vec<f32> {
        let image = image.into();
        let mut out = vec![0.0; 3 * self.height as usize * self.width as usize];
        if image.size == [self.width, self.height] && self.fit == clr_adapters::Fit::Stretch && image.factor == 1 {
            self.to_tensor(image.pixels, &mut out);
        } else {
            self.to_tensor(&self.fit(image), &mut out);
        }
        out
    }
}

/// Returns `(v − mean) / std` for every byte `v`.
fn lookup_table(mean: f32, std: f32) -> [f32; 256] {
    std::array::from_fn(|value| (value as f32 - mean) / std)
}
