//! Further images in a file: frames of an animation or pages of a document.

/// Returns whether a GIF, PNG, WebP or TIFF file contains more images than the first one, which is decoded.
#[must_use]
pub fn has_further_images(bytes: &[u8]) -> bool {
    match super::file_kind::image_format(bytes) {
        Some("GIF") => gif(bytes).is_some_and(|frames| frames > 1),
        Some("PNG") => png(bytes).is_some_and(|frames| frames > 1),
        Some("WebP") => webp(bytes),
        Some("TIFF") => Directory::first(bytes).is_some_and(|directory| directory.next != 0),
        _ => false,
    }
}

/// Returns the number of image descriptors, counted up to the second (`GIF89a`, section 20).
fn gif(bytes: &[u8]) -> Option<usize> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10)?);
    let mut frames = 0;
    while frames < 2 {
        match bytes.get(at)? {
            0x21 => at += 2,
            0x2c => {
                frames += 1;
                at += 11 + table(*bytes.get(at + 9)?);
            }
            _ => break,
        }
        // Sub-blocks, each preceded by its length, up to an empty one.
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
    Some(frames)
}

/// Returns the number of frames in the `acTL` chunk, which comes before the pixels.
fn png(bytes: &[u8]) -> Option<u32> {
    let mut at = 8;
    loop {
        let length = u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
        match bytes.get(at + 4..at + 8)? {
            b"acTL" => return Some(u32::from_be_bytes(*bytes.get(at + 8..)?.first_chunk()?)),
            b"IDAT" => return None,
            _ => at = at.checked_add(12 + length)?,
        }
    }
}

/// Returns whether a WebP file has a second frame.
fn webp(bytes: &[u8]) -> bool {
    let (mut at, mut frames) = (12, 0);
    while let Some(kind) = bytes.get(at..at + 4) {
        frames += usize::from(kind == b"ANMF");
        let Some(length) = bytes.get(at + 4..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let length = u32::from_le_bytes(*length) as usize;
        at += 8 + length + length % 2;
    }
    frames > 1
}

/// A directory of a TIFF file: the tags of one image (TIFF 6.0, section 2; `BigTIFF`).
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    little: bool,
    big: bool,
    entries: usize,
    count: usize,
    /// Position of the next directory; 0 for the last one.
    pub(super) next: u64,
}

impl<'a> Directory<'a> {
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        let little = *bytes.first()? == b'I';
        let big = number(bytes, 2, 2, little)? == 43;
        let start = usize::try_from(if big {
            number(bytes, 8, 8, little)
        } else {
            number(bytes, 4, 4, little)
        }?)
        .ok()?;
        let width = if big { 8 } else { 2 };
        let count = usize::try_from(number(bytes, start, width, little)?).ok()?;
        let entries = start.checked_add(width)?;
        let end = count.checked_mul(if big { 20 } else { 12 })?.checked_add(entries)?;
        let next = number(bytes, end, if big { 8 } else { 4 }, little)?;
        Some(Self {
            bytes,
            little,
            big,
            entries,
            count,
            next,
        })
    }

    /// Returns the first value of a tag with bytes, shorts or longs.
    #[cfg_attr(not(feature = "tiff"), expect(dead_code, reason = "asked by the decoder"))]
    pub(super) fn value(&self, tag: u16) -> Option<u64> {
        let (length, place) = if self.big { (20, 12) } else { (12, 8) };
        let at = |index: usize| self.entries + index * length;
        let number = |at, width| number(self.bytes, at, width, self.little);
        let index = (0..self.count).find(|&index| number(at(index), 2) == Some(u64::from(tag)))?;
        let width = match number(at(index) + 2, 2)? {
            1 => 1,
            3 => 2,
            4 => 4,
            _ => return None,
        };
        number(at(index) + place, width)
    }
}

fn number(bytes: &[u8], at: usize, width: usize, little: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(if little {
        bytes.iter().rev().fold(0, join)
    } else {
        bytes.iter().fold(0, join)
    })
}

#[cfg(test)]
mod tests {
    use image::{Delay, Frame, RgbaImage, codecs::gif::GifEncoder};

    use super::*;

    fn gif_of(frames: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for frame in 0..frames {
            let image = RgbaImage::from_pixel(9, 7, image::Rgba([frame as u8 * 90, 20, 30, 255]));
            let frame = Frame::from_parts(image, 0, 0, Delay::from_numer_denom_ms(100, 1));
            encoder.encode_frame(frame).unwrap();
        }
        drop(encoder);
        bytes
    }

    #[test]
    fn further_frames_are_detected_and_a_single_one_is_not() {
        assert!(!has_further_images(&gif_of(1)));
        assert!(has_further_images(&gif_of(3)));
        let whole = gif_of(2);
        for end in 0..whole.len() {
            // The function does not panic, whatever is cut off.
            let _ = has_further_images(&whole[..end]);
        }
    }

    #[test]
    fn pages_of_a_document_are_detected() {
        // Little-endian: one directory with one tag (compression: none), then another directory or none.
        for (next, further) in [(0_u32, false), (8, true)] {
            let mut bytes = b"II*\0\x08\0\0\0\x01\0\x03\x01\x03\0\x01\0\0\0\x01\0\0\0".to_vec();
            bytes.extend_from_slice(&next.to_le_bytes());
            assert_eq!(has_further_images(&bytes), further);
            assert_eq!(Directory::first(&bytes).unwrap().value(259), Some(1));
        }
    }
}
