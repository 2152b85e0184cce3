//! Decoding of image files to 8-bit RGB, with limits on bytes, pixels, memory and time.
//!
//! A large image is reduced by 2, 4 or 8 while it is decoded: JPEG through the size of its inverse transform, PNG row
//! by row, other formats from their buffer. The factor depends only on the size of the image and of the network input,
//! so training and device see the same pixels.

mod convert;
mod error;
mod jpeg;
mod limits;
mod memory;
mod orientation;
mod png;
mod prefix_codes;
mod raster;
mod reduce;
#[cfg(test)]
mod tests;
#[cfg(feature = "tiff")]
mod tiff;
mod webp;

use std::{
    fs::File,
    io::Read as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, LazyLock},
    time::Instant,
};

use clr_adapters::Preprocessing;
use image::{ImageFormat, RgbImage, metadata::Orientation};

pub use error::ImageError;
pub use limits::DecodeLimits;
use limits::{Pool, Refused, Reservation};

use super::{
    file_kind::{PILLOW, image_format, unread_format},
    image_view::{ImageNotes, ImageView, ReducedImage},
};

/// Maximum number of pixels of an image that host commands read.
pub const MAX_IMAGE_PIXELS: u64 = DecodeLimits::HOST.pixels;

/// Error text for an image on which a decoder panicked.
const PANICKED: &str = "the decoder failed on it";

/// Image decoder with limits. Large images that one decoder decodes at the same time share its memory budget.
#[derive(Debug)]
pub struct ImageDecoder {
    limits: DecodeLimits,
    pool: Arc<Pool>,
}

/// A decoded image. Until it is dropped, it counts towards the decoder's memory budget.
#[derive(Debug)]
pub struct DecodedImage {
    image: ReducedImage,
    _reservation: Reservation,
}

impl DecodedImage {
    /// Returns the pixels.
    #[must_use]
    pub fn pixels(&self) -> &RgbImage {
        self.image.pixels()
    }

    /// Returns whether decoding for `input` alone gives the same pixels.
    #[must_use]
    pub fn is_decoded_for(&self, input: &Preprocessing) -> bool {
        super::fit::reduction(input, self.image.size) == self.image.factor
    }
}

impl<'a> From<&'a DecodedImage> for ImageView<'a> {
    fn from(decoded: &'a DecodedImage) -> Self {
        (&decoded.image).into()
    }
}

impl From<DecodedImage> for ReducedImage {
    fn from(decoded: DecodedImage) -> Self {
        decoded.image
    }
}

impl ImageDecoder {
    /// Returns a decoder with these limits.
    #[must_use]
    pub fn new(limits: DecodeLimits) -> Self {
        Self {
            limits,
            pool: Arc::default(),
        }
    }

    /// Returns the limits.
    pub fn limits(&self) -> &DecodeLimits {
        &self.limits
    }

    /// Decodes a PNG, JPEG, BMP, WebP, GIF, PNM (PBM, PGM, PPM, PAM) or, with feature `tiff`, TIFF file to 8-bit RGB.
    /// Of an animation or a file with several pages, decodes the first image.
    ///
    /// The content determines the format. The EXIF orientation is applied. 16-bit samples are rounded to 8 bits, grey
    /// is repeated in all three channels, and transparent pixels are composed onto white. Colour profiles and texts are
    /// skipped.
    ///
    /// The image is reduced by the largest of the factors 8, 4 and 2 for which its width and height remain at least
    /// three times what each of `inputs` needs, if there is one. Without `inputs`, the image is not reduced. `origin`
    /// names the image in errors.
    ///
    /// # Errors
    /// [`ImageError`] if the image is damaged, has an unsupported format, or exceeds a limit. The message names
    /// `origin`.
    pub fn decode(&self, bytes: &[u8], origin: &str, inputs: &[&Preprocessing]) -> Result<DecodedImage, ImageError> {
        self.decode_observed(bytes, origin, inputs, &|_| {})
    }

    /// Decodes like [`decode`](Self::decode). Each time before it uses more memory, it calls `before` with the number
    /// of bytes.
    ///
    /// # Errors
    /// [`ImageError`] in the same cases as [`decode`](Self::decode).
    pub fn decode_observed(
        &self,
        bytes: &[u8],
        origin: &str,
        inputs: &[&Preprocessing],
        before: &dyn Fn(u64),
    ) -> Result<DecodedImage, ImageError> {
        let job = Job {
            before,
            bytes,
            origin,
            inputs,
            limits: &self.limits,
            pool: &self.pool,
            deadline: Instant::now() + self.limits.time,
        };
        if bytes.len() as u64 > self.limits.bytes {
            return Err(job.too_many_bytes(bytes.len() as u64));
        }
        let decode = match image_format(bytes) {
            Some("JPEG") => jpeg::decode,
            Some("PNG") => png::decode,
            Some("WebP") => webp::decode,
            Some("GIF") => raster::gif,
            Some("BMP") => raster::bmp,
            #[cfg(feature = "tiff")]
            Some("TIFF") => tiff::decode,
            Some("PBM" | "PGM" | "PPM" | "PAM") => raster::pnm,
            format => {
                let start = &bytes[..bytes.len().min(super::file_kind::FILE_HEAD)];
                return Err(
                    match format
                        .map(|name| (name, "convert it to PNG first"))
                        .or_else(|| unread_format(start))
                    {
                        Some((format, advice)) => ImageError::UnreadFormat {
                            origin: origin.to_owned(),
                            format,
                            advice,
                        },
                        None => ImageError::UnknownFormat {
                            origin: origin.to_owned(),
                        },
                    },
                );
            }
        };
        // If a decoder panics, the bytes caused a case that its authors did not expect.
        catch_unwind(AssertUnwindSafe(|| decode(&job))).unwrap_or_else(|_| Err(job.damaged(PANICKED)))
    }

    /// Reads and decodes a file; see [`decode`](Self::decode).
    ///
    /// # Errors
    /// [`ImageError`] in the same cases as [`decode`](Self::decode), and if the file cannot be read. The message names
    /// the file.
    pub fn decode_file(&self, path: &Path, inputs: &[&Preprocessing]) -> Result<DecodedImage, ImageError> {
        self.decode(&self.read_file(path)?, &path.display().to_string(), inputs)
    }

    /// Reads a file that is not longer than the limit.
    ///
    /// # Errors
    /// [`ImageError`] if the file is longer or cannot be read. The message names the file.
    pub fn read_file(&self, path: &Path) -> Result<Vec<u8>, ImageError> {
        let origin = || path.display().to_string();
        let limit = self.limits.bytes;
        let read = || {
            let metadata = std::fs::metadata(path)?;
            if !metadata.is_file() {
                return Err(std::io::Error::other("not a regular file"));
            }
            let mut bytes = Vec::new();
            if metadata.len() <= limit {
                bytes.try_reserve_exact(metadata.len() as usize + 1)?;
                // Reads one byte more than allowed, to detect a file that has grown in the meantime.
                File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
            }
            Ok((bytes, metadata.len()))
        };
        let (bytes, length) = read().map_err(|source| ImageError::Io {
            origin: origin(),
            source,
        })?;
        let length = length.max(bytes.len() as u64);
        if length > limit {
            return Err(ImageError::TooManyBytes {
                origin: origin(),
                bytes: length,
                limit,
            });
        }
        Ok(bytes)
    }
}

fn host() -> &'static ImageDecoder {
    static HOST: LazyLock<ImageDecoder> = LazyLock::new(|| ImageDecoder::new(DecodeLimits::HOST));
    &HOST
}

fn unreduced(decoded: DecodedImage) -> RgbImage {
    decoded.image.into()
}

/// Reads and decodes a file at full size, within [`DecodeLimits::HOST`].
///
/// # Errors
/// [`ImageError`] in the same cases as [`ImageDecoder::decode_file`]. The message names the file.
pub fn decode_image(path: &Path) -> Result<RgbImage, ImageError> {
    host().decode_file(path, &[]).map(unreduced)
}

/// Decodes the bytes of an image file like [`decode_image`].
///
/// # Errors
/// [`ImageError`] in the same cases as [`ImageDecoder::decode`]. The message names `origin`.
pub fn decode_image_bytes(bytes: &[u8], origin: &str) -> Result<RgbImage, ImageError> {
    host().decode(bytes, origin, &[]).map(unreduced)
}

/// Reads and decodes a file like [`decode_image`], reduced for `inputs` as on the device; see [`ImageDecoder::decode`].
///
/// # Errors
/// [`ImageError`] in the same cases as [`ImageDecoder::decode_file`]. The message names the file.
pub fn decode_image_for(path: &Path, inputs: &[&Preprocessing]) -> Result<ReducedImage, ImageError> {
    host().decode_file(path, inputs).map(Into::into)
}

/// Decodes the bytes of an image file like [`decode_image_for`].
///
/// # Errors
/// [`ImageError`] in the same cases as [`ImageDecoder::decode`]. The message names `origin`.
pub fn decode_image_bytes_for(
    bytes: &[u8],
    origin: &str,
    inputs: &[&Preprocessing],
) -> Result<ReducedImage, ImageError> {
    host().decode(bytes, origin, inputs).map(Into::into)
}

/// Reads an image file that is not longer than [`DecodeLimits::HOST`] allows.
///
/// # Errors
/// [`ImageError`] if the file is longer or cannot be read. The message names the file.
pub fn read_image_file(path: &Path) -> Result<Vec<u8>, ImageError> {
    host().read_file(path)
}

/// Entry point for fuzzing: decodes arbitrary bytes within a few megabytes, at full size and reduced.
///
/// Returns the number of pixels of both results, if the bytes are an image within the limits.
pub fn decode_hostile(bytes: &[u8]) -> [Option<u64>; 2] {
    let decoder = ImageDecoder::new(DecodeLimits {
        bytes: 1 << 20,
        pixels: 1 << 20,
        memory: 16 << 20,
        time: std::time::Duration::from_secs(5),
    });
    let mut input = super::imagenet_preprocessing();
    (input.height, input.width) = (8, 8);
    [&[][..], &[&input]].map(|inputs| {
        let decoded = decoder.decode(bytes, "bytes", inputs).ok()?;
        let [width, height] = <[u32; 2]>::from(decoded.pixels().dimensions()).map(u64::from);
        Some(width * height)
    })
}

/// An image in progress.
struct Job<'a> {
    bytes: &'a [u8],
    origin: &'a str,
    inputs: &'a [&'a Preprocessing],
    limits: &'a DecodeLimits,
    pool: &'a Arc<Pool>,
    deadline: Instant,
    before: &'a dyn Fn(u64),
}

/// An image's size, orientation and reduction.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    /// Width and height as stored.
    size: [u32; 2],
    orientation: Orientation,
    factor: u32,
}

impl Geometry {
    /// Returns width and height of the result before it is rotated.
    fn reduced(&self) -> [u32; 2] {
        reduce::reduced(self.size, self.factor)
    }

    fn pixels(&self) -> u64 {
        u64::from(self.size[0]) * u64::from(self.size[1])
    }

    /// Returns the bytes of the result.
    fn result(&self) -> u64 {
        let [width, height] = self.reduced().map(u64::from);
        3 * width * height
    }
}

impl Job<'_> {
    /// Checks the number of pixels and selects the reduction.
    fn geometry(&self, size: [u32; 2], orientation: Orientation) -> Result<Geometry, ImageError> {
        let [width, height] = size;
        let origin = || self.origin.to_owned();
        if width == 0 || height == 0 {
            return Err(ImageError::Empty {
                origin: origin(),
                width,
                height,
            });
        }
        if u64::from(width) * u64::from(height) > self.limits.pixels {
            return Err(ImageError::TooManyPixels {
                origin: origin(),
                width,
                height,
                limit: self.limits.pixels,
            });
        }
        let upright = orientation::size(size, orientation);
        let factors = self.inputs.iter().map(|input| super::fit::reduction(input, upright));
        Ok(Geometry {
            size,
            orientation,
            factor: factors.min().unwrap_or(1),
        })
    }

    /// Reserves `decoding` bytes of the budget, but at least what rotating and scaling the result needs.
    fn reserve(&self, decoding: u64, geometry: &Geometry) -> Result<Reservation, ImageError> {
        let needed = decoding
            .max(2 * geometry.result())
            .saturating_add(self.bytes.len() as u64);
        let reserved = self.pool.reserve(needed, self.limits, self.deadline);
        let reservation = reserved.map_err(|refused| match refused {
            Refused::Memory(available) => self.too_much_memory(needed, available),
            Refused::Time => self.too_slow(),
        })?;
        (self.before)(needed);
        Ok(reservation)
    }

    /// Returns the result, rotated according to the orientation.
    fn finish(
        &self,
        image: RgbImage,
        geometry: &Geometry,
        notes: ImageNotes,
        mut reservation: Reservation,
    ) -> Result<DecodedImage, ImageError> {
        self.check_time()?;
        let image = reduce::fill_edges(image, geometry.size, geometry.factor);
        let pixels = orientation::apply(image, geometry.orientation);
        reservation.shrink_to(2 * geometry.result());
        let lacking = [0, 1].map(|axis| geometry.reduced()[axis] * geometry.factor - geometry.size[axis]);
        Ok(DecodedImage {
            image: ReducedImage {
                pixels,
                notes,
                factor: geometry.factor,
                size: orientation::size(geometry.size, geometry.orientation),
                missing: orientation::before(lacking, geometry.orientation),
            },
            _reservation: reservation,
        })
    }

    fn check_time(&self) -> Result<(), ImageError> {
        if Instant::now() > self.deadline {
            return Err(self.too_slow());
        }
        Ok(())
    }

    fn damaged(&self, what: impl Into<String>) -> ImageError {
        ImageError::Damaged {
            origin: self.origin.to_owned(),
            what: what.into(),
        }
    }

    fn too_slow(&self) -> ImageError {
        ImageError::TooSlow {
            origin: self.origin.to_owned(),
            milliseconds: self.limits.time.as_millis() as u64,
        }
    }

    fn too_many_bytes(&self, bytes: u64) -> ImageError {
        ImageError::TooManyBytes {
            origin: self.origin.to_owned(),
            bytes,
            limit: self.limits.bytes,
        }
    }

    fn too_much_memory(&self, needed: u64, available: u64) -> ImageError {
        ImageError::TooMuchMemory {
            origin: self.origin.to_owned(),
            needed,
            available,
        }
    }

    /// Returns the error for memory that the system refused although it is within the limits.
    fn no_memory(&self, geometry: &Geometry) -> ImageError {
        self.too_much_memory(geometry.result(), 0)
    }

    /// Converts an error of a decoder of the `image` crate.
    fn decoder_error(&self, error: image::ImageError) -> ImageError {
        match error {
            image::ImageError::Limits(_) => self.too_much_memory(self.limits.memory, self.limits.memory),
            image::ImageError::Unsupported(_) => ImageError::Decode {
                origin: self.origin.to_owned(),
                advice: PILLOW,
                source: error,
            },
            error => self.damaged(error.to_string()),
        }
    }

    fn unsupported(&self, format: ImageFormat, feature: &str, advice: &'static str) -> ImageError {
        let kind = image::error::UnsupportedErrorKind::GenericFeature(feature.to_owned());
        let error = image::error::UnsupportedError::from_format_and_kind(format.into(), kind);
        ImageError::Decode {
            origin: self.origin.to_owned(),
            advice,
            source: image::ImageError::Unsupported(error),
        }
    }
}
