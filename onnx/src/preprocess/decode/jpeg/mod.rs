//! JPEG reader. It reads every scan to its last bit, so that a truncated or damaged file is detected. If the image is
//! to be reduced, the same pass produces its pixels.
//!
//! Other decoders show the existing part of a damaged file and grey for the rest, which suits a viewer but not a
//! classifier. This reader supports baseline, extended and progressive files with Huffman coding and 8 bits per sample;
//! others are refused. Unreduced pixels are decoded by the `image` crate.

mod bits;
mod colour;
mod frame;
mod huffman;
mod idct;
mod planes;
mod scan;

use std::io::Cursor;

use image::{ColorType, ImageDecoder as _, ImageFormat, codecs::jpeg::JpegDecoder};

use super::{DecodedImage, Geometry, ImageError, ImageNotes, Job, raster};
use frame::{Fault, Frame, Headers, Scan};
use planes::Plane;

pub(super) fn decode(job: &Job<'_>) -> Result<DecodedImage, ImageError> {
    let fault = |fault| match fault {
        Fault::Damaged(what) => job.damaged(what),
        Fault::Unsupported(feature, advice) => job.unsupported(ImageFormat::Jpeg, &feature, advice),
    };
    let mut headers = Headers::new(job.bytes);
    let first = headers.next_scan(2).map_err(fault)?;
    let (Some(frame), Some(first)) = (headers.frame.clone(), first) else {
        return Err(job.damaged("it ends before its pixels"));
    };
    let geometry = job.geometry(frame.size, headers.orientation())?;
    let planes = planes::bytes(&frame, geometry.factor);
    if geometry.factor == 1 {
        let check = job.reserve(planes, &geometry)?;
        scans(job, &mut headers, &frame, first, 1, &geometry)?.map_err(fault)?;
        drop(check);
        return unreduced(job, &frame, &geometry);
    }
    let mut reservation = job.reserve(planes + geometry.result(), &geometry)?;
    let planes = scans(job, &mut headers, &frame, first, geometry.factor, &geometry)?.map_err(fault)?;
    let image = colour::assemble(&frame, headers.colour(), &planes, geometry.factor, geometry.reduced())
        .map_err(|_| job.no_memory(&geometry))?;
    drop(planes);
    reservation.shrink_to(2 * geometry.result());
    job.finish(image, &geometry, ImageNotes::default(), reservation)
}

/// Returns the full-size pixels of a file that is known to be intact.
fn unreduced(job: &Job<'_>, frame: &Frame, geometry: &Geometry) -> Result<DecodedImage, ImageError> {
    let decoder = JpegDecoder::new(Cursor::new(job.bytes)).map_err(|error| job.decoder_error(error))?;
    // Memory: a copy of the file, the current rows, and all coefficients if scans are not interleaved.
    let coefficients = if frame.progressive || multiscan(job) {
        let blocks = |component: usize| {
            let [across, down] = frame.blocks(component).map(u64::from);
            (across + 4) * (down + 4)
        };
        128 * (0..frame.components.len()).map(blocks).sum::<u64>()
    } else {
        0
    };
    let rows = 256 * u64::from(frame.size[0]) + (1 << 20);
    let grey = decoder.color_type() == ColorType::L8;
    let working = job.bytes.len() as u64 + rows + coefficients + if grey { geometry.result() } else { 0 };
    raster::decode(job, decoder, geometry, working)
}

/// Returns whether there is more than one scan.
fn multiscan(job: &Job<'_>) -> bool {
    job.bytes
        .windows(2)
        .filter(|pair| *pair == [0xff, 0xda])
        .nth(1)
        .is_some()
}

/// Reads all scans. The planes are empty if the image is not reduced.
fn scans(
    job: &Job<'_>,
    headers: &mut Headers<'_>,
    frame: &Frame,
    first: (Scan, usize),
    factor: u32,
    geometry: &Geometry,
) -> Result<Result<Vec<Plane>, Fault>, ImageError> {
    let planes: Result<Vec<Plane>, _> = (0..frame.components.len())
        .map(|component| Plane::new(frame, component, factor))
        .collect();
    let mut planes = planes.map_err(|_| job.no_memory(geometry))?;
    // For each component, the coefficients that were sent completely.
    let mut sent = vec![0_u64; planes.len()];
    let mut next = Some(first);
    let mut end = 0;
    while let Some((scan, start)) = next {
        end = match scan::read(job, headers, frame, &scan, &mut planes, start)? {
            Ok(end) => end,
            Err(fault) => return Ok(Err(fault)),
        };
        for &(component, ..) in &scan.components {
            let [first, last] = scan.band;
            if scan.low == 0 {
                sent[component] |= (u64::MAX >> (63 - (last - first))) << first;
            }
        }
        next = match headers.next_scan(end) {
            Ok(next) => next,
            // Data after a complete image do not count as damage.
            Err(_) if sent.iter().all(|&sent| sent == u64::MAX) => None,
            Err(fault) => return Ok(Err(fault)),
        };
    }
    let ended = job.bytes.get(end..end + 2) == Some(&[0xff, 0xd9]);
    let missing = sent.iter().filter(|&&sent| sent != u64::MAX).count();
    // A progressive file whose writer ended it early is intact; one that just stops is not.
    if planes.iter().any(|plane| plane.quantisation.is_none()) || missing > 0 && !ended {
        return Ok(frame::damaged(format!(
            "scans of {missing} of {} components are missing",
            planes.len()
        )));
    }
    for plane in &mut planes {
        plane.transform_all();
    }
    Ok(Ok(planes))
}
