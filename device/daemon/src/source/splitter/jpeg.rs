//! JPEG (ITU T.81, annex B): markers from the start marker to the end marker, or to the end of the scan data.

use super::walk::{Step, Trace};

/// Maximum number of segments of an image. Colour profiles and metadata need a few hundred.
const MAX_SEGMENTS: usize = 1024;

/// Range of scan data without markers, as positions in the stream. Each byte is searched only once, even for several
/// candidates.
#[derive(Debug, Default)]
pub(super) struct ScanData {
    from: u64,
    to: u64,
}

/// State of following a JPEG.
#[derive(Debug, Default)]
pub(super) struct Jpeg {
    pub(super) trace: Trace,
    segments: usize,
    frame_header: bool,
    in_scan: bool,
    /// Start of the first scan's data, once found.
    first_scan: Option<usize>,
    /// End of the last scan's data.
    scan_end: usize,
}

impl Jpeg {
    /// Returns whether a byte may be the type of the first marker after the start marker.
    pub(super) fn starts_with(marker: u8) -> bool {
        matches!(marker, 0xc0..=0xc7 | 0xc9..=0xcf | 0xdb | 0xdd | 0xe0..=0xef | 0xfe | 0xff)
    }

    /// Returns the end of the image, given that another one starts at `at`: the end of its scan data, if it has any.
    pub(super) fn cut_before(&self, at: usize) -> Option<usize> {
        let first = self.first_scan?;
        let end = if self.in_scan { at } else { at.min(self.scan_end) };
        (end > first).then_some(end)
    }

    /// Parses the markers. `start` is the image's position in the stream.
    pub(super) fn advance(&mut self, bytes: &[u8], start: u64, scan_data: &mut ScanData) -> Step {
        self.trace.at = self.trace.at.max(2);
        loop {
            if self.in_scan && !self.skip_scan_data(bytes, start, scan_data) {
                return Step::More;
            }
            let at = self.trace.at;
            let Some(&[first, marker]) = bytes.get(at..at + 2) else {
                return Step::More;
            };
            match (first, marker) {
                (0xff, 0xff) => {
                    self.trace.at += 1;
                    continue;
                }
                (0xff, 0xd9) if self.first_scan.is_some() => return Step::End(at + 2),
                (0xff, 0xc0..=0xcf | 0xda..=0xdd | 0xe0..=0xef | 0xfe) if marker != 0xc8 => {}
                _ => return self.broken(),
            }
            // The previous segment ended correctly.
            self.trace.next_part(at, matches!(marker, 0xe0..=0xef | 0xfe));
            self.segments += 1;
            let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                return Step::More;
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length < 2 || self.segments > MAX_SEGMENTS {
                return self.broken();
            }
            match marker {
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    let Some(&[precision, _, _, width_high, width_low, components]) = bytes.get(at + 4..at + 10) else {
                        return Step::More;
                    };
                    let sound = matches!(precision, 8 | 12)
                        && (width_high, width_low) != (0, 0)
                        && matches!(components, 1..=4)
                        && length == 8 + 3 * usize::from(components);
                    if self.frame_header || !sound {
                        return self.broken();
                    }
                    self.frame_header = true;
                    self.trace.head = true;
                }
                0xda => {
                    let Some(&components) = bytes.get(at + 4) else {
                        return Step::More;
                    };
                    let sound = matches!(components, 1..=4) && length == 6 + 2 * usize::from(components);
                    if !self.frame_header || !sound {
                        return self.broken();
                    }
                    let data = at + 2 + length;
                    self.in_scan = true;
                    self.first_scan.get_or_insert(data);
                }
                _ => {}
            }
            self.trace.at = at + 2 + length;
        }
    }

    /// Moves to the marker after the scan data. Returns false if more bytes are needed.
    fn skip_scan_data(&mut self, bytes: &[u8], start: u64, scan_data: &mut ScanData) -> bool {
        let entered = start + self.trace.at as u64;
        if (scan_data.from..=scan_data.to).contains(&entered) {
            self.trace.at = (scan_data.to - start) as usize;
        } else {
            *scan_data = ScanData {
                from: entered,
                to: entered,
            };
        }
        let mut at = self.trace.at;
        let found = loop {
            let Some(ahead) = bytes
                .get(at..)
                .and_then(|rest| rest.iter().position(|&byte| byte == 0xff))
            else {
                at = at.max(bytes.len());
                break false;
            };
            at += ahead;
            match bytes.get(at + 1) {
                None => break false,
                // A stuffed zero or a restart marker.
                Some(0x00 | 0xd0..=0xd7) => at += 2,
                Some(0xff) => at += 1,
                Some(_) => break true,
            }
        };
        self.trace.at = at;
        scan_data.to = start + at as u64;
        if found {
            self.in_scan = false;
            self.scan_end = at;
        }
        found
    }

    /// Ends the image after its scan data, if it has any, because the following bytes are not part of it.
    fn broken(&self) -> Step {
        match self.first_scan {
            Some(first) if self.scan_end > first => Step::Cut(self.scan_end),
            _ => Step::Broken,
        }
    }
}
