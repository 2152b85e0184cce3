//! Bytes between images: heads of multipart MJPEG, padding, or lost data.

/// Maximum bytes of text or padding between two images that count as a separator.
const SEPARATOR: u64 = 4096;

/// Counter of the bytes outside of images.
///
/// All bytes between two images are classified together, however they arrive. They are a separator if they are few and
/// all of them look like one; otherwise they are lost data.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Bytes of the gap, as long as it may be a separator.
    separator: u64,
    /// Whether the gap is known not to be a separator.
    loss: bool,
    lost: u64,
}

impl Gaps {
    /// Counts bytes of the gap.
    pub(super) fn count(&mut self, bytes: &[u8]) {
        let count = bytes.len() as u64;
        let padding = |&byte: &u8| is_text(byte) || matches!(byte, 0 | 0xff);
        self.loss |= self.separator + count > SEPARATOR || !bytes.iter().all(padding);
        self.separator += count;
        if self.loss {
            self.lost += std::mem::take(&mut self.separator);
        }
    }

    /// Ends the gap: an image follows.
    pub(super) fn image(&mut self) {
        self.separator = 0;
        self.loss = false;
    }

    /// Returns the number of bytes lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t')
}

/// Removes the head of the next part of a multipart MJPEG stream from a JPEG without end marker: a line feed, two
/// hyphens, and text up to an empty line.
pub(super) fn trim(image: &mut Vec<u8>) {
    const LONGEST: usize = 512;
    if !image.ends_with(b"\n\r\n") && !image.ends_with(b"\n\n") {
        return;
    }
    let from = image.len().saturating_sub(LONGEST);
    let text = image[from..].iter().rev().take_while(|&&byte| is_text(byte)).count();
    let start = image.len() - text;
    if let Some(at) = image[start..].windows(3).position(|bytes| bytes == b"\n--") {
        image.truncate(start + at);
        if image.last() == Some(&b'\r') {
            image.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_bytes_do_not_depend_on_how_the_stream_arrives() {
        let long = vec![0; 3 * SEPARATOR as usize];
        let mixed = [&[b'a'; 1000][..], &[7; 10], &[b'a'; 1000]].concat();
        let edge = vec![b' '; SEPARATOR as usize];
        for (gap, expected) in [(&long, long.len()), (&mixed, mixed.len()), (&edge, 0)] {
            for piece in [1, 7, 1000, gap.len()] {
                let mut gaps = Gaps::default();
                for bytes in gap.chunks(piece) {
                    gaps.count(bytes);
                }
                gaps.image();
                gaps.count(b"\n");
                assert_eq!(gaps.lost(), expected as u64, "{} bytes in pieces of {piece}", gap.len());
            }
        }
    }
}
