//! PNG (specification, section 5): chunks from `IHDR` to `IEND`, each with a checksum.

use super::walk::{Step, Trace, u32_be};

pub(super) const MAGIC: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
/// Cap of the chunks of an image.
const MAX_CHUNKS: usize = 1 << 14;

/// State of following a PNG.
#[derive(Debug, Default)]
pub(super) struct Png {
    pub(super) trace: Trace,
    chunks: usize,
    /// Whether a checksum was wrong.
    damaged: bool,
    image_data: bool,
}

impl Png {
    pub(super) fn advance(&mut self, bytes: &[u8], largest: usize) -> Step {
        if self.trace.at == 0 {
            let Some(header) = bytes.get(8..33) else {
                return Step::More;
            };
            if !sound_header(header) {
                return Step::Broken;
            }
            self.trace.head = true;
            self.trace.at = 33;
            self.trace.next_part(33, false);
        }
        loop {
            let at = self.trace.at;
            let Some(&[a, b, c, d, ref name @ ..]) = bytes.get(at..at + 8) else {
                return Step::More;
            };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let end = at.saturating_add(length).saturating_add(12);
            if end > largest || !name.iter().all(u8::is_ascii_alphabetic) || self.chunks > MAX_CHUNKS {
                return Step::Broken;
            }
            let animation = name == b"fdAT";
            if !self.damaged {
                self.trace.next_part(at, name[0].is_ascii_lowercase() && !animation);
            }
            if bytes.len() < end {
                return Step::More;
            }
            self.damaged |= crc32fast::hash(&bytes[at + 4..end - 4]) != u32_be(&bytes[end - 4..end]);
            self.image_data |= name == b"IDAT";
            self.chunks += 1;
            self.trace.at = end;
            if name == b"IEND" {
                self.trace.verified = !self.damaged;
                return if length == 0 && self.image_data {
                    Step::End(end)
                } else {
                    Step::Broken
                };
            }
        }
    }
}

/// Checks the `IHDR` chunk with its length and checksum.
fn sound_header(chunk: &[u8]) -> bool {
    let size = |at: usize| (1..=i32::MAX as u32).contains(&u32_be(&chunk[at..at + 4]));
    chunk.starts_with(b"\0\0\0\x0dIHDR")
        && crc32fast::hash(&chunk[4..21]) == u32_be(&chunk[21..25])
        && size(8)
        && size(12)
        && matches!(chunk[16], 1 | 2 | 4 | 8 | 16)
        && matches!(chunk[17], 0 | 2 | 3 | 4 | 6)
}
