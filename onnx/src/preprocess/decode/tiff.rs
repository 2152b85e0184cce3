//! TIFF: the first image, in compressions that allow damage to be detected.

use std::io::Cursor;

use image::{ImageDecoder as _, ImageFormat, Limits, codecs::tiff::TiffDecoder, metadata::Orientation};

use super::{super::frames::Directory, DecodedImage, ImageError, Job, PILLOW, raster};

/// Compressions whose decoders report missing data: none, LZW, Deflate (two numbers), `PackBits`. For JPEG and fax
/// data, decoders fill in missing pixels.
const CHECKED: [u64; 5] = [1, 5, 8, 32_946, 32_773];
const COMPRESSION: u16 = 259;

pub(super) fn decode(job: &Job<'_>) -> Result<DecodedImage, ImageError> {
    let directory = Directory::first(job.bytes).ok_or_else(|| job.damaged("its directory is missing or cut"))?;
    let compression = directory.value(COMPRESSION).unwrap_or(1);
    if !CHECKED.contains(&compression) {
        let name = match compression {
            2..=4 => " (fax)",
            6 | 7 => " (JPEG)",
            _ => "",
        };
        return Err(job.unsupported(ImageFormat::Tiff, &format!("compression {compression}{name}"), PILLOW));
    }
    let mut decoder = TiffDecoder::new(Cursor::new(job.bytes)).map_err(|error| job.decoder_error(error))?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let geometry = job.geometry([width, height], orientation)?;
    // The samples as stored, from which the decoder removes those of black ink, and a strip or tile that is being
    // decoded.
    let stored = decoder.total_bytes() / 3 * 4 + 8;
    let working = 2 * stored + job.bytes.len() as u64 + (1 << 20);
    // Reserved before the decoder allocates any of it.
    drop(job.reserve(working, &geometry)?);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(working);
    decoder.set_limits(limits).map_err(|error| job.decoder_error(error))?;
    raster::decode(job, decoder, &geometry, working)
}
