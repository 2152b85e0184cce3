//! Finds the pictures in a stream of them, one behind the other: JPEG (so MJPEG), PNG, BMP and WebP.
//!
//! Each format says where it ends, so no separator is needed: JPEG by walking its markers (a thumbnail inside an EXIF
//! segment has an end marker of its own), PNG by its chunks, BMP and WebP by the length in their heads.

/// Bytes beyond which a picture is given up.
const LARGEST: usize = 32 << 20;

/// Cuts a stream into pictures. Bytes between them are skipped.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    /// How far the picture at the front was followed.
    scanned: usize,
    skipped: usize,
}

/// How far a scan came.
#[derive(Debug, PartialEq, Eq)]
enum Scan {
    /// The picture ends here.
    End(usize),
    /// More bytes are needed; the next scan may start here.
    More(usize),
    /// Not such a picture.
    Broken,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Jpeg,
    Png,
    Bmp,
    Webp,
}

impl Splitter {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole picture.
    pub(super) fn next_picture(&mut self) -> Option<Vec<u8>> {
        loop {
            let Some((start, kind)) = find(&self.buffer) else {
                // A beginning may be cut: keep as much as the longest magic number has but one.
                let keep = self.buffer.len().min(11);
                self.skip(self.buffer.len() - keep);
                return None;
            };
            self.skip(start);
            let scan = match kind {
                Kind::Jpeg => jpeg(&self.buffer, self.scanned),
                Kind::Png => png(&self.buffer, self.scanned),
                Kind::Bmp => headed(&self.buffer, 2, 0),
                Kind::Webp => headed(&self.buffer, 4, 8),
            };
            match scan {
                Scan::End(end) if end <= LARGEST => {
                    let rest = self.buffer.split_off(end);
                    self.scanned = 0;
                    return Some(std::mem::replace(&mut self.buffer, rest));
                }
                Scan::More(at) if self.buffer.len() <= LARGEST => {
                    self.scanned = at;
                    return None;
                }
                // Go on behind the beginning that led nowhere.
                _ => {
                    self.scanned = 0;
                    self.skip(1);
                }
            }
        }
    }

    /// Bytes skipped so far, and bytes of a picture that never ended.
    pub(super) fn finish(self) -> (usize, usize) {
        (self.skipped, self.buffer.len())
    }

    fn skip(&mut self, count: usize) {
        if count > 0 {
            self.buffer.drain(..count);
            self.skipped += count;
            self.scanned = 0;
        }
    }
}

/// Where the first picture may start, and of which kind it is.
fn find(bytes: &[u8]) -> Option<(usize, Kind)> {
    (0..bytes.len()).find_map(|at| {
        let rest = &bytes[at..];
        let kind = if rest.starts_with(&[0xff, 0xd8, 0xff]) {
            Kind::Jpeg
        } else if rest.starts_with(b"\x89PNG\r\n\x1a\n") {
            Kind::Png
        } else if rest.starts_with(b"RIFF") && rest.get(8..12) == Some(b"WEBP") {
            Kind::Webp
        } else if rest.starts_with(b"BM") && rest.get(6..10) == Some(&[0; 4]) {
            Kind::Bmp
        } else {
            return None;
        };
        Some((at, kind))
    })
}

/// Follows a JPEG's markers from `at` (ITU T.81, annex B).
fn jpeg(bytes: &[u8], at: usize) -> Scan {
    let mut at = at.max(2);
    loop {
        let Some(&[first, marker]) = bytes.get(at..at + 2) else {
            return Scan::More(at);
        };
        match (first, marker) {
            (0xff, 0xd9) => return Scan::End(at + 2),
            // Fill bytes, stuffed zeros and restart markers.
            (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
            (0xff, 0xd8) => return Scan::Broken,
            (0xff, _) => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return Scan::More(at);
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                if length < 2 {
                    return Scan::Broken;
                }
                at += 2 + length;
            }
            // Entropy-coded data.
            _ => match bytes[at..].iter().position(|&byte| byte == 0xff) {
                Some(ahead) => at += ahead,
                None => return Scan::More(bytes.len()),
            },
        }
    }
}

/// Follows a PNG's chunks from `at` (PNG specification, section 5.3).
fn png(bytes: &[u8], at: usize) -> Scan {
    let mut at = at.max(8);
    loop {
        let Some(&[a, b, c, d, ref kind @ ..]) = bytes.get(at..at + 8) else {
            return Scan::More(at);
        };
        let end = at + 12 + u32::from_be_bytes([a, b, c, d]) as usize;
        if end > LARGEST {
            return Scan::Broken;
        }
        if kind == b"IEND" {
            return if bytes.len() < end {
                Scan::More(at)
            } else {
                Scan::End(end)
            };
        }
        at = end;
    }
}

/// The end of a picture whose length stands little-endian at `at`, without `extra` bytes.
fn headed(bytes: &[u8], at: usize, extra: usize) -> Scan {
    let Some(&[a, b, c, d]) = bytes.get(at..at + 4) else {
        return Scan::More(0);
    };
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    // RIFF pads to whole words.
    let end = length.saturating_add(extra) + if extra > 0 { length % 2 } else { 0 };
    if !(26..=LARGEST).contains(&end) {
        return Scan::Broken;
    }
    if bytes.len() < end {
        Scan::More(0)
    } else {
        Scan::End(end)
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, RgbImage};

    use super::*;

    fn picture(format: ImageFormat, seed: u8) -> Vec<u8> {
        let image = RgbImage::from_fn(31, 17, |x, y| {
            image::Rgb([(x * 7) as u8 ^ seed, (y * 13) as u8, seed.wrapping_mul(x as u8)])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn all() -> Vec<Vec<u8>> {
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP]
            .into_iter()
            .cycle()
            .take(12)
            .enumerate()
            .map(|(seed, format)| picture(format, seed as u8))
            .collect()
    }

    fn split(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, (usize, usize)) {
        let mut splitter = Splitter::default();
        let mut pictures = Vec::new();
        for piece in stream.chunks(piece) {
            splitter.push(piece);
            while let Some(picture) = splitter.next_picture() {
                pictures.push(picture);
            }
        }
        (pictures, splitter.finish())
    }

    #[test]
    fn pictures_come_back_whole_however_the_stream_is_cut() {
        let pictures = all();
        let stream = pictures.concat();
        for piece in [1, 2, 7, 100, 4096, stream.len()] {
            let (got, left) = split(&stream, piece);
            assert!(got == pictures, "pieces of {piece}");
            assert_eq!(left, (0, 0));
        }
    }

    #[test]
    fn bytes_between_pictures_are_skipped() {
        let pictures = all();
        let mut stream = Vec::new();
        for picture in &pictures {
            stream.extend(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n");
            stream.extend(picture);
        }
        let (got, (skipped, rest)) = split(&stream, 50);
        assert!(got == pictures);
        assert_eq!((skipped, rest), (12 * 37, 0));
    }

    #[test]
    fn a_thumbnail_inside_a_jpeg_does_not_end_it() {
        let (inner, outer) = (picture(ImageFormat::Jpeg, 1), picture(ImageFormat::Jpeg, 2));
        let mut whole = outer[..2].to_vec();
        whole.extend([0xff, 0xe1]);
        whole.extend((inner.len() as u16 + 2).to_be_bytes());
        whole.extend(&inner);
        whole.extend(&outer[2..]);
        assert!(split(&[&whole[..], &inner].concat(), 33).0 == [whole, inner]);
    }

    #[test]
    fn a_picture_that_never_ends_does_not_keep_the_next_ones_back() {
        let next = picture(ImageFormat::Png, 3);
        let mut stream = vec![0xff, 0xd8, 0xff, 0xe0, 0, 1];
        stream.extend(&next);
        assert!(split(&stream, 10).0 == [next]);
    }
}
