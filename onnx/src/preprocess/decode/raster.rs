//! Formats whose decoders return the complete image at once: BMP, GIF, PNM and, in separate modules, WebP and TIFF.

use std::io::Cursor;

use image::{
    ColorType, ImageDecoder, ImageFormat, Limits, RgbImage,
    codecs::{bmp::BmpDecoder, gif::GifDecoder, pnm::PnmDecoder},
    metadata::Orientation,
};

use super::{
    DecodedImage, Geometry, ImageError, ImageNotes, Job,
    convert::Convert,
    reduce::{Reducer, zeroed},
};

pub(super) fn bmp(job: &Job<'_>) -> Result<DecodedImage, ImageError> {
    let decoder = BmpDecoder::new(Cursor::new(job.bytes)).map_err(|error| job.decoder_error(error))?;
    let (width, height) = decoder.dimensions();
    let geometry = job.geometry([width, height], Orientation::NoTransforms)?;
    decode(job, decoder, &geometry, 0)
}

pub(super) fn gif(job: &Job<'_>) -> Result<DecodedImage, ImageError> {
    let mut decoder = GifDecoder::new(Cursor::new(job.bytes)).map_err(|error| job.decoder_error(error))?;
    let (width, height) = decoder.dimensions();
    let geometry = job.geometry([width, height], Orientation::NoTransforms)?;
    // The first frame may be larger than the canvas; in that case it has its own buffer.
    let canvas = 4 * geometry.pixels();
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(canvas.max(1 << 20));
    decoder.set_limits(limits).map_err(|error| job.decoder_error(error))?;
    decode(job, decoder, &geometry, canvas.max(1 << 20))
}

pub(super) fn pnm(job: &Job<'_>) -> Result<DecodedImage, ImageError> {
    let decoder = PnmDecoder::new(Cursor::new(job.bytes)).map_err(|error| job.decoder_error(error))?;
    let (width, height) = decoder.dimensions();
    let geometry = job.geometry([width, height], Orientation::NoTransforms)?;
    // For a PAM file without a tuple type, the decoder reads 16-bit samples as 8-bit ones.
    if let Some(header) = decoder.header().as_arbitrary()
        && header.tupltype.is_none()
        && header.maxval > 255
    {
        return Err(job.unsupported(
            ImageFormat::Pnm,
            "PAM of 16 bits without TUPLTYPE",
            "write the line TUPLTYPE RGB, or GRAYSCALE, into its header",
        ));
    }
    decode(job, decoder, &geometry, 0)
}

/// Reads the complete image. The decoder uses `working` bytes in addition to the buffer that it fills.
pub(super) fn decode(
    job: &Job<'_>,
    decoder: impl ImageDecoder,
    geometry: &Geometry,
    working: u64,
) -> Result<DecodedImage, ImageError> {
    let colour = decoder.color_type();
    let buffer = decoder.total_bytes();
    let as_it_is = colour == ColorType::Rgb8 && geometry.factor == 1;
    let reducer = if as_it_is {
        0
    } else {
        Reducer::bytes(geometry.size, geometry.factor, false)
    };
    let reservation = job.reserve(buffer + working.max(reducer), geometry)?;
    let no_memory = |_| job.no_memory(geometry);
    let mut pixels = zeroed::<u8>(usize::try_from(buffer).unwrap_or(usize::MAX)).map_err(no_memory)?;
    decoder
        .read_image(&mut pixels)
        .map_err(|error| job.decoder_error(error))?;
    job.check_time()?;
    let [width, height] = geometry.size;
    if as_it_is {
        let image = RgbImage::from_raw(width, height, pixels).expect("the buffer fills its size");
        return job.finish(image, geometry, ImageNotes::default(), reservation);
    }
    let mut reducer = Reducer::new(geometry.size, geometry.factor, false).map_err(no_memory)?;
    let sixteen: Option<fn([u8; 2]) -> u16> = match colour {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => None,
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => Some(u16::from_ne_bytes),
        _ => {
            return Err(job.unsupported(
                ImageFormat::Tiff,
                "samples in floating point",
                "make bytes of them, alike in all images; of 0 to 1 in Python (pip install tifffile pillow): \
                 import tifffile; from PIL import Image; \
                 Image.fromarray((tifffile.imread('IN.tif') * 255).clip(0, 255).astype('uint8')).save('OUT.png')",
            ));
        }
    };
    let mut convert = Convert::new(usize::from(colour.channel_count()), sixteen);
    let mut rgb = Vec::new();
    for (y, row) in pixels
        .chunks_exact(usize::from(colour.bytes_per_pixel()) * width as usize)
        .enumerate()
    {
        convert.row(row, &mut rgb);
        reducer.row(y as u32, &rgb);
    }
    drop(pixels);
    job.finish(reducer.finish(false), geometry, convert.notes(), reservation)
}
