//! BMP: a header that states the length, then pixels without structure.

use super::walk::{Step, Trace, u16_le, u32_le};

/// Maximum number of bytes after the pixels, such as padding or a colour profile.
const MAX_TRAILING_BYTES: usize = 4 << 20;

/// State of following a BMP.
#[derive(Debug, Default)]
pub(super) struct Bmp {
    pub(super) trace: Trace,
    length: usize,
}

impl Bmp {
    /// Returns whether the first 10 bytes may be the start of a BMP.
    pub(super) fn starts_with(bytes: &[u8]) -> bool {
        bytes.starts_with(b"BM") && bytes.get(6..10) == Some(&[0; 4])
    }

    pub(super) fn advance(&mut self, bytes: &[u8], largest: usize) -> Step {
        if !self.trace.head {
            match header(bytes, largest) {
                Header::More => return Step::More,
                Header::Broken => return Step::Broken,
                Header::Sound { pixels, length } => {
                    self.length = length;
                    self.trace.head = true;
                    self.trace.next_part(pixels, false);
                }
            }
        }
        if bytes.len() < self.length {
            Step::More
        } else {
            Step::End(self.length)
        }
    }
}

enum Header {
    More,
    Broken,
    Sound { pixels: usize, length: usize },
}

/// Checks that the fields of the header are consistent.
fn header(bytes: &[u8], largest: usize) -> Header {
    let Some(file) = bytes.get(..18) else {
        return Header::More;
    };
    let (length, pixels, info) = (u32_le(&file[2..]), u32_le(&file[10..]), u32_le(&file[14..]));
    let sound = matches!(info, 12 | 40 | 52 | 56 | 64 | 108 | 124)
        && (14 + info..=1 << 20).contains(&pixels)
        && (pixels + 1..=largest).contains(&length);
    if !sound {
        return Header::Broken;
    }
    let Some(rest) = bytes.get(18..14 + info.min(40)) else {
        return Header::More;
    };
    let (width, height, planes, bits, compression) = if info == 12 {
        let half = |at: usize| usize::from(u16_le(&rest[at..]));
        (half(0), half(2), half(4), half(6), 0)
    } else {
        let height = u32_le(&rest[4..]) as u32 as i32;
        let half = |at: usize| usize::from(u16_le(&rest[at..]));
        (
            u32_le(rest),
            height.unsigned_abs() as usize,
            half(8),
            half(10),
            u32_le(&rest[12..]),
        )
    };
    if planes != 1 || width == 0 || height == 0 || !matches!(bits, 1 | 2 | 4 | 8 | 16 | 24 | 32) {
        return Header::Broken;
    }
    let fits = match compression {
        // Uncompressed pixels, with or without masks. Rows are padded to multiples of 4 bytes.
        0 | 3 | 6 => {
            let row = width.saturating_mul(bits).div_ceil(32).saturating_mul(4);
            let end = row.saturating_mul(height).saturating_add(pixels);
            (end..=end.saturating_add(MAX_TRAILING_BYTES)).contains(&length)
        }
        // With run-length coding, the length does not depend on the size. Embedded JPEG or PNG (4, 5) only occurs for
        // printers.
        1 => bits == 8,
        2 => bits == 4,
        _ => false,
    };
    if fits {
        Header::Sound { pixels, length }
    } else {
        Header::Broken
    }
}
