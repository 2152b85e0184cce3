//! WebP: the container is checked before the decoder allocates memory according to its sizes.

use std::{collections::BTreeMap, io::Cursor, ops::Range};

use image::{ImageDecoder as _, codecs::webp::WebPDecoder, metadata::Orientation};

use super::{DecodedImage, ImageError, Job, prefix_codes, raster};

/// Position of a lossless bitstream from its transforms on, and its width and height.
type Bitstream = (Range<usize>, [u32; 2]);

/// Content of the chunks.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of the container, independent of each other"
)]
struct Container {
    /// Number of pixels of the largest among canvas, frames and bitstreams.
    pixels: u64,
    alpha: bool,
    any_lossless: bool,
    animated: bool,
    /// Whether EXIF data exist and are complete. If they are not, they are not decoded, because the decoder allocates as
    /// much memory as their length field claims.
    exif: bool,
    /// Width and height of the canvas, or of the frame that is being read.
    canvas: [u32; 2],
    /// Whether the first frame was decoded. Further frames of an animation are not decoded.
    first_frame_read: bool,
    /// Lossless bitstreams: the first of each kind, outside and inside of a frame.
    lossless: BTreeMap<(bool, [u8; 4]), Bitstream>,
    /// Bytes of the prefix codes of one bitstream.
    codes: u64,
}

pub(super) fn decode(job: &Job<'_>) -> Result<DecodedImage, ImageError> {
    let mut container = Container::default();
    chunks(job, 12, job.bytes.len(), false, &mut container)?;
    if container.pixels > job.limits.pixels {
        // The canvas may be small although its frames are large.
        let side = u32::try_from(container.pixels).unwrap_or(u32::MAX);
        return Err(job
            .geometry([side, 1], Orientation::NoTransforms)
            .err()
            .unwrap_or_else(|| job.damaged("size")));
    }
    let mut decoder = WebPDecoder::new(Cursor::new(job.bytes)).map_err(|error| job.decoder_error(error))?;
    let (width, height) = decoder.dimensions();
    // Unreadable metadata are no reason to refuse the image.
    let orientation = container.exif.then(|| decoder.orientation().ok()).flatten();
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    let geometry = job.geometry([width, height], orientation)?;
    // The codes are only read if the image is within the limits without them.
    drop(job.reserve(container.working(), &geometry)?);
    for (range, size) in container.lossless.values() {
        let codes = prefix_codes::memory(job, &job.bytes[range.clone()], *size)?;
        container.codes = container.codes.max(codes);
    }
    raster::decode(job, decoder, &geometry, container.working())
}

impl Container {
    /// Returns the bytes of the decoder's buffers in addition to the one that it fills.
    fn working(&self) -> u64 {
        // Lossless images need a copy as RGBA, and images of transforms and code groups at a quarter of the size. Lossy
        // images need planes of luma and chroma in blocks of 16. Alpha needs a lossless image and then a plane. A frame
        // of an animation needs a buffer, and a canvas on which it is composed.
        let lossless = if self.any_lossless { 28 } else { 10 };
        let alpha = if self.alpha { 28 } else { 0 };
        let animated = if self.animated { 32 } else { 0 };
        self.pixels * (lossless + alpha + animated) / 4 + self.codes + (1 << 20)
    }
}

/// Reads the chunks between two positions.
fn chunks(
    job: &Job<'_>,
    mut at: usize,
    end: usize,
    in_frame: bool,
    container: &mut Container,
) -> Result<(), ImageError> {
    let bytes = job.bytes;
    let pixels = |width: u64, height: u64| width * height;
    let mut any = false;
    while at + 8 <= end {
        let kind = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let length = u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]) as usize;
        let start = at + 8;
        let data = &bytes[start..end.min(start.saturating_add(length))];
        let image = [b"VP8 ", b"VP8L", b"ALPH", b"ANMF"].contains(&&kind);
        if image && data.len() < length {
            let missing = length - data.len();
            let name = String::from_utf8_lossy(&kind);
            return Err(job.damaged(format!(
                "{missing} of {length} bytes of `{}` are missing",
                name.trim_end()
            )));
        }
        any |= image;
        let u24 = |at: usize| {
            data.get(at..at + 3)
                .map_or(0, |b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], 0])))
        };
        let mut lossless = None;
        let found = match &kind {
            b"VP8X" => {
                container.alpha |= data.first().is_some_and(|flags| flags & 0x10 != 0);
                container.animated |= data.first().is_some_and(|flags| flags & 0x02 != 0);
                container.canvas = [u24(4), u24(7)].map(|side| side as u32 + 1);
                pixels(u24(4) + 1, u24(7) + 1)
            }
            b"VP8 " => {
                let side = |at: usize| {
                    data.get(at..at + 2)
                        .map_or(0, |b| u64::from(u16::from_le_bytes([b[0], b[1]]) & 0x3fff))
                };
                pixels(side(6), side(8))
            }
            b"VP8L" => {
                container.any_lossless = true;
                let bits = data
                    .get(1..5)
                    .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                let size = [(bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1];
                lossless = Some((start + 5, size));
                pixels(u64::from(size[0]), u64::from(size[1]))
            }
            b"EXIF" => {
                container.exif = data.len() == length;
                0
            }
            b"ALPH" => {
                container.alpha = true;
                if data.first().is_some_and(|method| method & 3 == 1) {
                    lossless = Some((start + 1, container.canvas));
                }
                0
            }
            b"ANMF" if data.len() >= 16 => {
                container.animated = true;
                container.canvas = [u24(6), u24(9)].map(|side| side as u32 + 1);
                chunks(job, start + 16, start + length, true, container)?;
                container.first_frame_read = true;
                pixels(u24(6) + 1, u24(9) + 1)
            }
            _ => 0,
        };
        container.pixels = container.pixels.max(found);
        if let Some((from, size)) = lossless
            && from <= start + length
            && !container.first_frame_read
        {
            let stream = (from..start + length, size);
            container.lossless.entry((in_frame, kind)).or_insert(stream);
        }
        at = start.saturating_add(length).saturating_add(length % 2);
    }
    if !any {
        return Err(job.damaged("it ends before its pixels"));
    }
    Ok(())
}
