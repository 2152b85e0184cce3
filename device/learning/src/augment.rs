//! Augmentation: per image, one affine warp with bilinear sampling and one colour change, both mild.

use clr_onnx::RgbImage;
use rand::{Rng, RngExt as _};
use serde::{Deserialize, Serialize};

/// Random mirroring of images, left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// Never: for digits, letters, signs and other images with a handedness.
    Off,
    /// Half of the time.
    On,
    /// On if the fitted head is equally accurate on mirrored validation images, otherwise off.
    Auto,
}

/// Ranges of random changes to a training image. With all of them zero, images do not change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Mirroring.
    pub flip: Flip,
    /// Minimum area of a crop as a fraction of the image, 0–1; 1 means no crop.
    pub area: f32,
    /// Maximum change of the aspect ratio, as a fraction: 0.1 is 10 %.
    pub aspect: f32,
    /// Maximum shift in addition to that of the crop, as a fraction of the side. Edge pixels are repeated.
    pub translate: f32,
    /// Maximum rotation in degrees.
    pub rotate: f32,
    /// Maximum change of brightness, contrast and saturation, as a fraction.
    pub colour: f32,
}

impl Augmentation {
    /// No change: the image of inference.
    pub const NONE: Self = Self {
        flip: Flip::Off,
        area: 1.0,
        aspect: 0.0,
        translate: 0.0,
        rotate: 0.0,
        colour: 0.0,
    };

    /// The default: small crops, shifts, rotations and colour changes; mirroring if it does no harm.
    pub const MILD: Self = Self {
        flip: Flip::Auto,
        area: 0.75,
        aspect: 0.1,
        translate: 0.04,
        rotate: 5.0,
        colour: 0.15,
    };

    /// Returns whether images do not change.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Returns a randomly changed copy of `image`. [`Flip::Auto`] must be resolved before; it counts as off.
    pub fn apply(&self, image: &RgbImage, random: &mut impl Rng) -> RgbImage {
        // All numbers are drawn whatever the ranges are, so that one option does not affect the random numbers of
        // others.
        let mut unit = || random.random_range(-1.0_f32..1.0);
        let [area, aspect, x, y, dx, dy, turn, flip, brightness, contrast, saturation] =
            std::array::from_fn(|_| unit());
        let side = (1.0 - (1.0 - self.area) * (0.5 + 0.5 * area)).sqrt();
        let stretch = (1.0 + self.aspect).powf(0.5 * aspect);
        let scale = [(side * stretch).min(1.0), (side / stretch).min(1.0)];
        // Position of the crop's centre, in units of half the side.
        let centre = [
            x * (1.0 - scale[0]) + 2.0 * dx * self.translate,
            y * (1.0 - scale[1]) + 2.0 * dy * self.translate,
        ];
        let mirror = if self.flip == Flip::On && flip < 0.0 { -1.0 } else { 1.0 };
        let (sin, cos) = (turn * self.rotate).to_radians().sin_cos();
        let matrix = [
            [scale[0] * cos * mirror, -scale[0] * sin],
            [scale[1] * sin * mirror, scale[1] * cos],
        ];
        let mut output = warp(image, matrix, centre);
        if self.colour > 0.0 {
            let factor = |value: f32| 1.0 + self.colour * value;
            recolour(&mut output, factor(brightness), factor(contrast), factor(saturation));
        }
        output
    }
}

/// `image` mirrored left to right.
pub fn mirror(image: &RgbImage) -> RgbImage {
    image::imageops::flip_horizontal(image)
}

/// Samples `image` at `matrix · position + centre`, with positions in −1..1 over both sides. Edge pixels are repeated
/// outside.
fn warp(image: &RgbImage, matrix: [[f32; 2]; 2], centre: [f32; 2]) -> RgbImage {
    let (width, height) = image.dimensions();
    let (w, h) = (width as f32, height as f32);
    let pixels = image.as_raw();
    let mut output = RgbImage::new(width, height);
    let at = |x: usize, y: usize, channel: usize| f32::from(pixels[3 * (y * width as usize + x) + channel]);
    for (row, line) in output.chunks_exact_mut(3 * width as usize).enumerate() {
        let v = (2.0 * row as f32 + 1.0) / h - 1.0;
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            let u = (2.0 * column as f32 + 1.0) / w - 1.0;
            let x = matrix[0][0] * u + matrix[0][1] * v + centre[0];
            let y = matrix[1][0] * u + matrix[1][1] * v + centre[1];
            let x = ((x + 1.0) * 0.5 * w - 0.5).clamp(0.0, w - 1.0);
            let y = ((y + 1.0) * 0.5 * h - 0.5).clamp(0.0, h - 1.0);
            let (x0, y0) = (x as usize, y as usize);
            let (x1, y1) = ((x0 + 1).min(width as usize - 1), (y0 + 1).min(height as usize - 1));
            let (fx, fy) = (x - x0 as f32, y - y0 as f32);
            for (channel, value) in pixel.iter_mut().enumerate() {
                let top = at(x0, y0, channel) * (1.0 - fx) + at(x1, y0, channel) * fx;
                let bottom = at(x0, y1, channel) * (1.0 - fx) + at(x1, y1, channel) * fx;
                *value = (top * (1.0 - fy) + bottom * fy).round() as u8;
            }
        }
    }
    output
}

/// Changes the saturation relative to each pixel's grey value, then the contrast relative to the mean grey value, then
/// the brightness.
fn recolour(image: &mut RgbImage, brightness: f32, contrast: f32, saturation: f32) {
    let grey = |pixel: &[u8]| 0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2]);
    let count = (image.as_raw().len() / 3).max(1);
    let mean = image.chunks_exact(3).map(|pixel| f64::from(grey(pixel))).sum::<f64>() / count as f64;
    let mean = mean as f32;
    for pixel in image.chunks_exact_mut(3) {
        let own = grey(pixel);
        for value in pixel {
            let saturated = own + (f32::from(*value) - own) * saturation;
            let contrasted = mean + (saturated - mean) * contrast;
            *value = (contrasted * brightness).round().clamp(0.0, 255.0) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Purpose, stream};

    fn example() -> RgbImage {
        RgbImage::from_fn(12, 9, |x, y| {
            image::Rgb([(20 * x) as u8, (25 * y) as u8, ((x * y) % 251) as u8])
        })
    }

    #[test]
    fn without_augmentation_an_image_is_unchanged() {
        let changed = Augmentation::NONE.apply(&example(), &mut stream(1, Purpose::Augment, 2, 3));
        assert_eq!(changed, example());
    }

    #[test]
    fn mirroring_is_exact_and_happens_about_half_of_the_time() {
        let flip = Augmentation {
            flip: Flip::On,
            ..Augmentation::NONE
        };
        let mirrored = mirror(&example());
        let count = (0..200)
            .filter(|&index| {
                let changed = flip.apply(&example(), &mut stream(1, Purpose::Augment, 0, index));
                assert!(changed == mirrored || changed == example());
                changed == mirrored
            })
            .count();
        assert!((70..130).contains(&count), "{count} of 200");
    }

    #[test]
    fn mild_changes_stay_mild_and_depend_only_on_the_stream() {
        let apply = |index| Augmentation::MILD.apply(&example(), &mut stream(1, Purpose::Augment, 0, index));
        assert_eq!(apply(5), apply(5));
        assert_ne!(apply(5), apply(6));
        let mean = |image: &RgbImage| {
            image.as_raw().iter().map(|&value| f64::from(value)).sum::<f64>() / image.as_raw().len() as f64
        };
        for index in 0..50 {
            let ratio = mean(&apply(index)) / mean(&example());
            assert!((0.6..1.5).contains(&ratio), "{ratio}");
        }
    }
}
