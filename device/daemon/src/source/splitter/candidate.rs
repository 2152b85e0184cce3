//! Candidate for an image: a position in the stream where one may start, parsed according to its format.

use super::{
    bmp::Bmp,
    jpeg::{Jpeg, ScanData},
    png::{self, Png},
    walk::{Step, Trace},
    webp::Webp,
};

/// State of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The candidate is valid so far.
    Open,
    /// An image that ends at this position in the stream. `cut` means that its own end marker is missing.
    Complete { end: u64, cut: bool },
    /// Not an image.
    Broken,
}

#[derive(Debug)]
enum Format {
    Jpeg(Jpeg),
    Png(Png),
    Bmp(Bmp),
    Webp(Webp),
}

/// A possible image.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Position in the stream.
    pub(super) start: u64,
    pub(super) state: State,
    format: Format,
}

impl Candidate {
    /// Returns a candidate if the bytes look like the start of an image.
    pub(super) fn at(start: u64, bytes: &[u8]) -> Option<Self> {
        let format = match bytes {
            [0xff, 0xd8, 0xff, marker, ..] if Jpeg::starts_with(*marker) => Format::Jpeg(Jpeg::default()),
            _ if bytes.starts_with(png::MAGIC) => Format::Png(Png::default()),
            _ if Webp::starts_with(bytes) => Format::Webp(Webp::default()),
            _ if Bmp::starts_with(bytes) => Format::Bmp(Bmp::default()),
            _ => return None,
        };
        Some(Self {
            start,
            state: State::Open,
            format,
        })
    }

    pub(super) fn trace(&self) -> &Trace {
        match &self.format {
            Format::Jpeg(jpeg) => &jpeg.trace,
            Format::Png(png) => &png.trace,
            Format::Bmp(bmp) => &bmp.trace,
            Format::Webp(webp) => &webp.trace,
        }
    }

    /// Returns the position of the part that is not confirmed yet.
    pub(super) fn unit(&self) -> u64 {
        self.start + self.trace().unit as u64
    }

    /// Parses the image as far as its bytes are available.
    pub(super) fn advance(&mut self, bytes: &[u8], scan_data: &mut ScanData, largest: usize) {
        if self.state != State::Open {
            return;
        }
        let step = match &mut self.format {
            Format::Jpeg(jpeg) => jpeg.advance(bytes, self.start, scan_data),
            Format::Png(png) => png.advance(bytes, largest),
            Format::Bmp(bmp) => bmp.advance(bytes, largest),
            Format::Webp(webp) => webp.advance(bytes, largest),
        };
        let complete = |end: usize, cut| {
            if end > largest {
                return State::Broken;
            }
            State::Complete {
                end: self.start + end as u64,
                cut,
            }
        };
        self.state = match step {
            Step::More => State::Open,
            Step::End(end) => complete(end, false),
            Step::Cut(end) => complete(end, true),
            Step::Broken => State::Broken,
        };
    }

    /// Returns the end of the image, given that another one starts at a position inside it; `None` if it then is not an
    /// image.
    pub(super) fn cut_before(&self, inner: u64) -> Option<u64> {
        match &self.format {
            Format::Jpeg(jpeg) => {
                let end = jpeg.cut_before((inner - self.start) as usize)?;
                Some(self.start + end as u64)
            }
            Format::Png(_) | Format::Bmp(_) | Format::Webp(_) => None,
        }
    }
}
