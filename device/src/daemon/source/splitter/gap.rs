//! Bytes between images: heads of multipart MJPEG and padding, or losses.

/// Text or padding between two images that is no loss.
const SEPARATOR: u64 = 4096;

/// Counts the bytes that belong to no image.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Bytes of separators since the last image.
    separator: u64,
    lost: u64,
}

impl Gaps {
    /// Counts bytes as a separator where they look like one and are few, else as lost.
    pub(super) fn count(&mut self, bytes: &[u8]) {
        let count = bytes.len() as u64;
        let padding = |&byte: &u8| is_text(byte) || matches!(byte, 0 | 0xff);
        if self.separator + count <= SEPARATOR && bytes.iter().all(padding) {
            self.separator += count;
        } else {
            self.lost += count;
        }
    }

    /// An image follows.
    pub(super) fn image(&mut self) {
        self.separator = 0;
    }

    /// Returns the bytes lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t')
}

/// Cuts the head of the next part of multipart MJPEG off a JPEG without end marker: a line feed, two hyphens, and text up to an empty line.
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
