//! Picture files to 8-bit RGB.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage, metadata::Orientation};

/// Pictures with more pixels than this are refused before they are decoded.
pub const MAX_IMAGE_PIXELS: u64 = 100_000_000;

/// Files longer than this are refused unread.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// What a decoder may hold at once: [`MAX_IMAGE_PIXELS`] of 16-bit RGBA, and some room to work.
const MAX_DECODER_BYTES: u64 = 1 << 30;

/// Why a picture could not be read. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be opened or read.
    #[error("{origin}: cannot be read: {source}")]
    Io {
        /// The file.
        origin: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The content is of none of the supported formats, whatever the file's extension says.
    #[error(
        "{origin}: not a picture in a supported format\nhint: supported are PNG, JPEG, BMP, WebP and GIF, told by the content"
    )]
    UnknownFormat {
        /// The file.
        origin: String,
    },
    /// More pixels than [`MAX_IMAGE_PIXELS`].
    #[error(
        "{origin}: {width} × {height} pixels, the limit is {MAX_IMAGE_PIXELS} pixels\nhint: scale the picture down first"
    )]
    TooManyPixels {
        /// The file.
        origin: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The file is too long to be a picture within the limits.
    #[error("{origin}: {bytes} bytes, the limit for a picture file is {MAX_FILE_BYTES} bytes")]
    TooManyBytes {
        /// The file.
        origin: String,
        /// Length of the file.
        bytes: u64,
    },
    /// The picture has no pixels.
    #[error("{origin}: {width} × {height} pixels, expected at least 1 × 1")]
    Empty {
        /// The file.
        origin: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The content is damaged or uses a feature that the decoder lacks.
    #[error("{origin}: cannot be decoded: {source}")]
    Decode {
        /// The file.
        origin: String,
        /// The decoder's reason.
        source: image::ImageError,
    },
}

/// Decodes a PNG, JPEG, BMP, WebP or GIF file (of an animation, the first frame) to 8-bit RGB.
///
/// The format is told by the content, not by the extension. The EXIF orientation is applied; 16-bit samples are rounded to
/// 8 bits; grey is repeated in all three channels; whatever is transparent is laid over white, as on paper.
///
/// # Errors
/// [`ImageError`], naming the file.
pub fn decode_image(path: &Path) -> Result<RgbImage, ImageError> {
    let origin = path.display().to_string();
    let open = || {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    };
    let (file, bytes) = open().map_err(|source| ImageError::Io {
        origin: origin.clone(),
        source,
    })?;
    if bytes > MAX_FILE_BYTES {
        return Err(ImageError::TooManyBytes { origin, bytes });
    }
    decode(BufReader::new(file), origin)
}

/// [`decode_image`] for a picture in memory; `origin` names it in errors.
///
/// # Errors
/// [`ImageError`], naming `origin`.
pub fn decode_image_bytes(bytes: &[u8], origin: &str) -> Result<RgbImage, ImageError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ImageError::TooManyBytes {
            origin: origin.to_owned(),
            bytes: bytes.len() as u64,
        });
    }
    decode(Cursor::new(bytes), origin.to_owned())
}

fn decode<R: BufRead + Seek>(source: R, origin: String) -> Result<RgbImage, ImageError> {
    let mut reader = match ImageReader::new(source).with_guessed_format() {
        Ok(reader) => reader,
        Err(source) => return Err(ImageError::Io { origin, source }),
    };
    if reader.format().is_none() {
        return Err(ImageError::UnknownFormat { origin });
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = match reader.into_decoder() {
        Ok(decoder) => decoder,
        Err(source) => return Err(ImageError::Decode { origin, source }),
    };
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_IMAGE_PIXELS {
        return Err(ImageError::TooManyPixels { origin, width, height });
    }
    if width == 0 || height == 0 {
        return Err(ImageError::Empty { origin, width, height });
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    match DynamicImage::from_decoder(decoder) {
        Ok(mut picture) => {
            picture.apply_orientation(orientation);
            Ok(over_white(picture))
        }
        Err(source) => Err(ImageError::Decode { origin, source }),
    }
}

/// 8-bit RGB; what is transparent is laid over white: `(colour · alpha + 255 · (255 − alpha)) / 255`, rounded.
fn over_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    let mut opaque = RgbImage::new(picture.width(), picture.height());
    for (to, from) in opaque.pixels_mut().zip(picture.pixels()) {
        let alpha = u32::from(from[3]);
        to.0 = [0, 1, 2].map(|channel| ((u32::from(from[channel]) * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    opaque
}
