//! Progress of parsing an image, common to all formats.

use std::ops::Range;

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// The image ends here.
    End(usize),
    /// The data of the image stop here, without an end marker.
    Cut(usize),
    /// Not an image.
    Broken,
}

/// State of parsing an image. All positions are relative to the image's first byte.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Position of the next byte, which may not be available yet.
    pub(super) at: usize,
    /// Whether the header has been checked.
    pub(super) head: bool,
    /// Start of the part (segment, chunk, pixels) whose end has not been confirmed by the bytes after it.
    pub(super) unit: usize,
    /// Whether this part is metadata, which may contain other images.
    pub(super) metadata: bool,
    /// Parts of metadata whose end is confirmed. Images inside of them are thumbnails.
    thumbnails: Vec<Range<usize>>,
    /// Whether checksums cover the complete image.
    pub(super) verified: bool,
}

impl Trace {
    /// Confirms that the part before `at` ended correctly, and begins another one.
    pub(super) fn next_part(&mut self, at: usize, metadata: bool) {
        if self.metadata && self.unit < at {
            self.thumbnails.push(self.unit..at);
        }
        self.unit = at;
        self.metadata = metadata;
    }

    /// Returns whether an image that starts at this position would be a thumbnail.
    pub(super) fn thumbnail(&self, at: usize) -> bool {
        self.metadata && at >= self.unit || self.thumbnails.iter().any(|part| part.contains(&at))
    }
}

pub(super) fn u16_le(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

pub(super) fn u32_le(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

pub(super) fn u32_be(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
