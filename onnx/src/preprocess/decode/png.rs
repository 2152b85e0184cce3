//! PNG, decoded row by row: only the current rows and the reduced image are in memory.

use std::io::Cursor;

use image::{ImageFormat, metadata::Orientation};
use png::{BitDepth, DecodingError, Transformations};

use super::{DecodedImage, ImageError, Job, PILLOW, convert::Convert, orientation, reduce::Reducer};

/// Bytes used by the decompressor's window and buffers.
const WINDOW: u64 = 512 << 10;

pub(super) fn decode(job: &Job<'_>) -> Result<DecodedImage, ImageError> {
    // Chunks other than image rows are stored completely. They cannot exceed the file's own bytes, because only rows
    // are inflated.
    let limits = png::Limits {
        bytes: usize::try_from(job.limits.memory).unwrap_or(usize::MAX),
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(job.bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(|error| fault(job, error))?;
    let (size, bits) = ([header.width, header.height], header.bits_per_pixel() as u64);
    let interlaced = header.interlaced;
    // Computed before anything else is read, so that the header alone suffices to refuse a decompression bomb.
    let stored = job.geometry(size, Orientation::NoTransforms)?;
    // Rows as stored, unfiltered and expanded. A pixel of a palette image becomes four bytes.
    let rows = u64::from(size[0]) * (3 * bits.div_ceil(8) + 8);
    let check = job.reserve(rows + WINDOW, &super::Geometry { factor: 8, ..stored })?;
    let mut reader = decoder.read_info().map_err(|error| fault(job, error))?;
    let exif = reader.info().exif_metadata.clone();
    let geometry = job.geometry(size, orientation::of_exif(exif.as_deref()))?;
    drop(check);
    let reducer = Reducer::bytes(size, geometry.factor, interlaced);
    let reservation = job.reserve(reducer + rows + WINDOW, &geometry)?;
    let mut reducer = Reducer::new(size, geometry.factor, interlaced).map_err(|_| job.no_memory(&geometry))?;
    let (colour, depth) = reader.output_color_type();
    let sixteen: Option<fn([u8; 2]) -> u16> = match depth {
        BitDepth::Eight => None,
        BitDepth::Sixteen => Some(u16::from_be_bytes),
        _ => return Err(job.unsupported(ImageFormat::Png, &format!("{colour:?} of {depth:?} bits"), PILLOW)),
    };
    let mut convert = Convert::new(colour.samples(), sixteen);
    let mut rgb = Vec::new();
    for line in lines(size, interlaced) {
        if line.y.is_multiple_of(64) {
            job.check_time()?;
        }
        let row = reader.next_interlaced_row().map_err(|error| fault(job, error))?;
        convert.row(row.as_ref().map_or(&[], |row| row.data()), &mut rgb);
        if rgb.len() != 3 * line.pixels as usize {
            return Err(job.damaged(format!("it ends before row {} of {}", line.y, size[1])));
        }
        if interlaced {
            for (index, pixel) in rgb.chunks_exact(3).enumerate() {
                reducer.pixel(
                    line.left + index as u32 * line.across,
                    line.y,
                    [pixel[0], pixel[1], pixel[2]],
                );
            }
        } else {
            reducer.row(line.y, &rgb);
        }
    }
    job.finish(reducer.finish(interlaced), &geometry, convert.notes(), reservation)
}

/// A row as it is stored.
pub(super) struct Line {
    y: u32,
    /// First column of the row, and the distance between the row's pixels in columns.
    left: u32,
    across: u32,
    pub(super) pixels: u32,
}

/// Returns the rows in the file's order, without empty passes.
pub(super) fn lines([width, height]: [u32; 2], interlaced: bool) -> impl Iterator<Item = Line> {
    let passes = if interlaced { &ADAM7[..] } else { &[(0, 0, 1, 1)] };
    passes.iter().flat_map(move |&(left, top, across, down)| {
        let pixels = width.saturating_sub(left).div_ceil(across);
        let rows = if pixels == 0 { 0..0 } else { top..height };
        rows.step_by(down as usize).map(move |y| Line {
            y,
            left,
            across,
            pixels,
        })
    })
}

/// First column and row, and the distances between columns and between rows, for each pass (PNG specification, section
/// 8.2).
const ADAM7: [(u32, u32, u32, u32); 7] = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
];

fn fault(job: &Job<'_>, error: DecodingError) -> ImageError {
    match error {
        DecodingError::LimitsExceeded => job.too_much_memory(job.limits.memory, job.limits.memory),
        error => job.damaged(error.to_string()),
    }
}
