//! Reduction of photographs before they are sent: re-encoded with fewer pixels, but still several times the network's
//! input.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder as _, codecs::jpeg::JpegEncoder, imageops};

use super::decode::{ImageError, decode_image_bytes};

/// JPEG quality of a re-encoded image. Its artefacts are smaller than the differences that remain after scaling to the
/// network's input.
const QUALITY: u8 = 95;
/// Short side of a scaled image, in multiples of the network input's side.
const SIDES: u32 = 4;
/// Images with more pixels are scaled even if their file is small, because decoding them takes too much memory on a
/// device.
const MOST_PIXELS: u64 = 4_000_000;

/// An image file that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The bytes of the file: unchanged, or a JPEG with the orientation applied.
    pub bytes: Vec<u8>,
    /// Whether the image was re-encoded.
    pub scaled: bool,
}

/// Reduces an image file to at most `most_bytes`, for a network with an input of `input` (width, height) pixels. A file
/// that is small enough is left unchanged, or converted to PNG if devices do not support its format (TIFF). A larger
/// file is scaled until it fits; its short side starts at four times the input's long side. `origin` names the file in
/// errors.
///
/// # Errors
/// [`ImageError`] if the file is not an image or is damaged, or if it cannot be reduced to `most_bytes` without
/// becoming smaller than the input.
pub fn shrink_to_fit(bytes: Vec<u8>, origin: &str, most_bytes: u64, input: [u32; 2]) -> Result<Shrunk, ImageError> {
    let image = decode_image_bytes(&bytes, origin)?;
    let pixels = u64::from(image.width()) * u64::from(image.height());
    if bytes.len() as u64 <= most_bytes && pixels <= MOST_PIXELS {
        if super::file_kind::image_format(&bytes) != Some("TIFF") {
            return Ok(Shrunk { bytes, scaled: false });
        }
        let mut png = Cursor::new(Vec::new());
        image
            .write_to(&mut png, image::ImageFormat::Png)
            .map_err(|source| ImageError::Decode {
                origin: origin.to_owned(),
                advice: "scale the image down first",
                source,
            })?;
        if png.get_ref().len() as u64 <= most_bytes {
            return Ok(Shrunk {
                bytes: png.into_inner(),
                scaled: true,
            });
        }
    }
    let least = input[0].max(input[1]).max(1);
    let mut short = least.saturating_mul(SIDES);
    loop {
        let factor = (f64::from(short) / f64::from(image.width().min(image.height()))).min(1.0);
        let side = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
        let small = imageops::resize(
            &image,
            side(image.width()),
            side(image.height()),
            imageops::FilterType::Triangle,
        );
        let mut encoded = Cursor::new(Vec::new());
        JpegEncoder::new_with_quality(&mut encoded, QUALITY)
            .write_image(small.as_raw(), small.width(), small.height(), ExtendedColorType::Rgb8)
            .map_err(|source| ImageError::Decode {
                origin: origin.to_owned(),
                advice: "scale the image down first",
                source,
            })?;
        let encoded = encoded.into_inner();
        if encoded.len() as u64 <= most_bytes {
            return Ok(Shrunk {
                bytes: encoded,
                scaled: true,
            });
        }
        if short <= least {
            return Err(ImageError::TooManyBytes {
                origin: origin.to_owned(),
                bytes: encoded.len() as u64,
                limit: most_bytes,
            });
        }
        short = (short * 3 / 4).max(least);
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, RgbImage};

    use super::*;

    /// Returns noise, which JPEG cannot compress well.
    fn noise(width: u32, height: u32) -> RgbImage {
        let mut state = 7_u32;
        RgbImage::from_fn(width, height, |_, _| {
            image::Rgb([0; 3].map(|_: u8| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            }))
        })
    }

    fn png(image: &RgbImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_small_file_is_unchanged_and_a_large_one_fits_and_keeps_its_aspect_ratio() {
        let small = png(&noise(40, 30));
        let shrunk = shrink_to_fit(small.clone(), "small", 1 << 20, [32, 32]).unwrap();
        assert_eq!((shrunk.bytes, shrunk.scaled), (small, false));
        let large = png(&noise(600, 400));
        let shrunk = shrink_to_fit(large.clone(), "large", 60_000, [32, 32]).unwrap();
        assert!(shrunk.scaled && shrunk.bytes.len() <= 60_000 && large.len() > 60_000);
        let image = decode_image_bytes(&shrunk.bytes, "shrunk").unwrap();
        assert!(image.height() >= 2 * 32, "{:?}", image.dimensions());
        assert!((f64::from(image.width()) / f64::from(image.height()) - 1.5).abs() < 0.05);
    }

    #[test]
    fn an_image_that_cannot_be_reduced_is_an_error_that_names_it() {
        let error = shrink_to_fit(png(&noise(300, 300)), "stubborn.png", 500, [64, 64]).unwrap_err();
        assert!(error.to_string().contains("stubborn.png"), "{error}");
        assert!(shrink_to_fit(b"no image".to_vec(), "text", 500, [64, 64]).is_err());
    }
}
