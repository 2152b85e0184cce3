//! Images reduced during decoding, and the position of the image in their pixels.

use image::RgbImage;

/// Notes of a decoder for the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageNotes {
    /// The largest sample, if the image has 16 bits per sample.
    pub largest_sample: Option<u16>,
    /// Whether transparent pixels were composed onto white.
    pub transparent: bool,
}

/// Pixels of an image, each the mean of a block of `factor` × `factor` stored pixels.
///
/// If a side is not a multiple of the factor, blocks at one edge contain fewer stored pixels, and the image ends inside
/// of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReducedImage {
    pub(super) pixels: RgbImage,
    pub(super) notes: ImageNotes,
    pub(super) factor: u32,
    /// Width and height before the reduction.
    pub(super) size: [u32; 2],
    /// Number of stored pixels that the blocks of the first column and row lack.
    pub(super) missing: [u32; 2],
}

impl ReducedImage {
    /// Returns the pixels.
    #[must_use]
    pub fn pixels(&self) -> &RgbImage {
        &self.pixels
    }

    /// Returns width and height before the reduction.
    #[must_use]
    pub fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Returns the notes of the decoder.
    #[must_use]
    pub fn notes(&self) -> ImageNotes {
        self.notes
    }
}

impl From<ReducedImage> for RgbImage {
    fn from(image: ReducedImage) -> Self {
        image.pixels
    }
}

impl From<RgbImage> for ReducedImage {
    fn from(pixels: RgbImage) -> Self {
        Self {
            factor: 1,
            size: pixels.dimensions().into(),
            missing: [0; 2],
            notes: ImageNotes::default(),
            pixels,
        }
    }
}

/// An image to be scaled to an input's size, at full size or reduced.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    pub(super) pixels: &'a RgbImage,
    pub(super) factor: u32,
    pub(super) size: [u32; 2],
    pub(super) missing: [u32; 2],
}

impl<'a> From<&'a RgbImage> for ImageView<'a> {
    fn from(pixels: &'a RgbImage) -> Self {
        Self {
            pixels,
            factor: 1,
            size: pixels.dimensions().into(),
            missing: [0; 2],
        }
    }
}

impl<'a> From<&'a ReducedImage> for ImageView<'a> {
    fn from(image: &'a ReducedImage) -> Self {
        let ReducedImage {
            pixels,
            factor,
            size,
            missing,
            ..
        } = image;
        Self {
            pixels,
            factor: *factor,
            size: *size,
            missing: *missing,
        }
    }
}
