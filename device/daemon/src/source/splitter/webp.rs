//! WebP: a RIFF header that states the length, and chunks that fill it exactly.

use super::walk::{Step, Trace, u32_le};

/// State of following a WebP.
#[derive(Debug, Default)]
pub(super) struct Webp {
    pub(super) trace: Trace,
    image_data: bool,
}

impl Webp {
    /// Returns whether the first 12 bytes may be the start of a WebP.
    pub(super) fn starts_with(bytes: &[u8]) -> bool {
        bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP")
    }

    pub(super) fn advance(&mut self, bytes: &[u8], largest: usize) -> Step {
        let Some(length) = bytes.get(4..8).map(u32_le) else {
            return Step::More;
        };
        // RIFF pads chunks to even lengths.
        let end = length.min(largest).next_multiple_of(2) + 8;
        if !(26..=largest).contains(&end) {
            return Step::Broken;
        }
        self.trace.at = self.trace.at.max(12);
        while self.trace.at < end {
            let at = self.trace.at;
            let Some(head) = bytes.get(at..at + 8) else {
                return Step::More;
            };
            let (name, length) = (&head[..4], u32_le(&head[4..]));
            let next = at + 8 + length.min(largest).next_multiple_of(2);
            if next > end || !name.iter().all(|byte| (0x20..0x7f).contains(byte)) {
                return Step::Broken;
            }
            let first = at == 12;
            if first && !matches!(name, b"VP8 " | b"VP8L" | b"VP8X") {
                return Step::Broken;
            }
            match (name, bytes.get(at + 8..at + 14)) {
                (b"VP8 " | b"VP8L", None) => return Step::More,
                (b"VP8 ", Some(payload)) if payload[3..] != [0x9d, 0x01, 0x2a] => return Step::Broken,
                (b"VP8L", Some(payload)) if payload[0] != 0x2f => return Step::Broken,
                (b"VP8X", _) if length != 10 || !first => return Step::Broken,
                _ => {}
            }
            self.trace.head = true;
            let image = matches!(name, b"VP8 " | b"VP8L" | b"ANMF" | b"ALPH");
            self.trace.next_part(at, !image);
            self.image_data |= image;
            if bytes.len() < next {
                return Step::More;
            }
            self.trace.at = next;
        }
        if self.image_data { Step::End(end) } else { Step::Broken }
    }
}
