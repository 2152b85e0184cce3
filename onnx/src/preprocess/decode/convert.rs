//! Conversion of rows of samples to 8-bit RGB: grey is repeated, 16 bits are rounded to 8, and transparency is composed
//! onto white.

use super::ImageNotes;

/// Conversion of an image's rows, and the kinds of samples found so far.
#[derive(Debug)]
pub(super) struct Convert {
    /// Number of channels: grey, grey and alpha, RGB, or RGB and alpha.
    channels: usize,
    /// Byte order of a 16-bit sample.
    sixteen: Option<fn([u8; 2]) -> u16>,
    notes: ImageNotes,
}

impl Convert {
    pub(super) fn new(channels: usize, sixteen: Option<fn([u8; 2]) -> u16>) -> Self {
        let notes = ImageNotes {
            largest_sample: sixteen.map(|_| 0),
            ..ImageNotes::default()
        };
        Self {
            channels,
            sixteen,
            notes,
        }
    }

    pub(super) fn notes(&self) -> ImageNotes {
        self.notes
    }

    /// Converts a row; `rgb` is cleared first.
    pub(super) fn row(&mut self, row: &[u8], rgb: &mut Vec<u8>) {
        rgb.clear();
        if let Some(read) = self.sixteen {
            let colours = if self.channels < 3 { 1 } else { 3 };
            let mut largest = self.notes.largest_sample.unwrap_or(0);
            for pixel in row.chunks_exact(2 * self.channels) {
                let mut samples = [0; 4];
                for (index, (sample, bytes)) in samples.iter_mut().zip(pixel.chunks_exact(2)).enumerate() {
                    let value = read([bytes[0], bytes[1]]);
                    if index < colours {
                        largest = largest.max(value);
                    }
                    // The nearest 8-bit value of the 16-bit value, both in the range 0–1.
                    *sample = ((u32::from(value) + 128) / 257) as u8;
                }
                rgb.extend_from_slice(&self.pixel(&samples));
            }
            self.notes.largest_sample = Some(largest);
        } else if self.channels == 3 {
            rgb.extend_from_slice(row);
        } else {
            for pixel in row.chunks_exact(self.channels) {
                rgb.extend_from_slice(&self.pixel(pixel));
            }
        }
    }

    fn pixel(&mut self, samples: &[u8]) -> [u8; 3] {
        match self.channels {
            1 => [samples[0]; 3],
            2 => self.over_white([samples[0]; 3], samples[1]),
            3 => [samples[0], samples[1], samples[2]],
            _ => self.over_white([samples[0], samples[1], samples[2]], samples[3]),
        }
    }

    /// Returns `(colour · alpha + 255 · (255 − alpha)) / 255`, rounded.
    fn over_white(&mut self, colour: [u8; 3], alpha: u8) -> [u8; 3] {
        self.notes.transparent |= alpha < 255;
        let alpha = u32::from(alpha);
        colour.map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
    }
}
