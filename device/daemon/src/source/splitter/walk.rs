//! Progress of following an image, common to all formats.

use std::ops::Range;

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// The image ends here.
    End(usize),
    /// Its data stop here, without an end marker.
    Cut(usize),
    /// Not an image.
    Broken,
}

/// State of following an image. All positions are relative to its first byte.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Position of the next byte, possibly beyond the available ones.
    pub(super) at: usize,
    /// Whether the header was checked.
    pub(super) head: bool,
    /// Start of the part (segment, chunk, pixels) whose end is not confirmed by the following bytes.
    pub(super) unit: usize,
    /// Whether that part is metadata, which may contain other images.
    pub(super) metadata: bool,
    /// Parts of metadata whose end is confirmed: the images in them are thumbnails.
    thumbnails: Vec<Range<usize>>,
    /// Whether checksums cover all of it.
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

    /// Returns whether an image that starts at a position would be a thumbnail.
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
