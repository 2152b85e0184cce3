//! Progress of following one image, common to all formats.

use std::ops::Range;

/// How far an image was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// The image ends here.
    End(usize),
    /// It has no end of its own: its data stop here.
    Cut(usize),
    /// It is none.
    Broken,
}

/// What is known of an image so far. All positions count from its first byte.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Next byte to look at; may lie beyond those that are there.
    pub(super) at: usize,
    /// Whether the header was checked.
    pub(super) head: bool,
    /// Start of the part (segment, chunk, pixels) whose end is not confirmed by what follows it.
    pub(super) unit: usize,
    /// Whether that part is metadata, which may hold other images.
    pub(super) metadata: bool,
    /// Parts of metadata whose end is confirmed: the images in them are thumbnails.
    thumbnails: Vec<Range<usize>>,
    /// Whether checksums cover all of it.
    pub(super) verified: bool,
}

impl Trace {
    /// The part before `at` ended where it should, and another one begins.
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
