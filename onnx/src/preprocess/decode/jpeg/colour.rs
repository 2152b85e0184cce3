//! Conversion of component planes to RGB.

use std::collections::TryReserveError;

use image::RgbImage;

use super::{
    super::reduce::zeroed,
    frame::{Colour, Frame},
    planes::Plane,
};

/// Returns the image of `size` pixels from planes that were reduced by `factor`.
pub(super) fn assemble(
    frame: &Frame,
    colour: Colour,
    planes: &[Plane],
    factor: u32,
    size: [u32; 2],
) -> Result<RgbImage, TryReserveError> {
    let [width, height] = size;
    let mut pixels = zeroed(3 * width as usize * height as usize)?;
    let axes: Vec<[Axis; 2]> = (planes.iter().zip(&frame.components))
        .map(|(plane, component)| {
            [0, 1].map(|axis| Axis {
                samples: component.sampling[axis] as usize * plane.side,
                pixels: frame.most[axis] as usize * (8 / factor) as usize,
                valid: plane.valid()[axis],
            })
        })
        .collect();
    for (y, row) in pixels.chunks_exact_mut(3 * width as usize).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let at = |component: usize| {
                let (plane, [across, down]) = (&planes[component], &axes[component]);
                let stride = plane.stride();
                if across.is_even() && down.is_even() {
                    return plane.samples[y * stride + x];
                }
                let columns = across.taps(x);
                let sum: usize = (down.taps(y).iter())
                    .flat_map(|(row, of_row)| columns.iter().map(move |tap| (row * stride + tap.0, of_row * tap.1)))
                    .map(|(place, weight)| weight * usize::from(plane.samples[place]))
                    .sum();
                ((sum + 8) / 16) as u8
            };
            let rgb = match colour {
                Colour::Grey => [at(0); 3],
                Colour::Rgb => [at(0), at(1), at(2)],
                Colour::YCbCr => rgb(at(0), at(1), at(2)),
                Colour::Cmyk => [at(0), at(1), at(2)].map(|ink| product(ink, at(3))),
                Colour::Ycck => rgb(at(0), at(1), at(2)).map(|value| product(255 - value, at(3))),
            };
            pixel.copy_from_slice(&rgb);
        }
    }
    Ok(RgbImage::from_raw(width, height, pixels).expect("the buffer fills its size"))
}

/// Relation of a component's samples to the image's pixels along an axis. A unit has `samples` samples and `pixels`
/// pixels; either may be larger.
struct Axis {
    samples: usize,
    pixels: usize,
    /// Number of samples that belong to the image.
    valid: usize,
}

impl Axis {
    fn is_even(&self) -> bool {
        self.samples == self.pixels
    }

    /// Returns the samples that determine a pixel, with their weights in quarters.
    fn taps(&self, pixel: usize) -> [(usize, usize); 4] {
        let last = self.valid - 1;
        let mut taps = [(0, 0); 4];
        let many = self.samples / self.pixels;
        if 2 * self.samples == self.pixels {
            // According to ITU T.81, a sample is centred between two pixels: three quarters of the nearest and one
            // quarter of the next.
            let near = pixel / 2;
            let next = if pixel.is_multiple_of(2) {
                near.saturating_sub(1)
            } else {
                near + 1
            };
            (taps[0], taps[1]) = ((near.min(last), 3), (next.min(last), 1));
        } else if [2, 4].contains(&many) && self.samples == many * self.pixels {
            for (index, tap) in taps.iter_mut().take(many).enumerate() {
                *tap = ((many * pixel + index).min(last), 4 / many);
            }
        } else {
            taps[0] = ((pixel * self.samples / self.pixels).min(last), 4);
        }
        taps
    }
}

/// JFIF's conversion, with 16 fractional bits.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y) << 16, i32::from(cb) - 128, i32::from(cr) - 128);
    [y + 91_881 * cr, y - 22_554 * cb - 46_802 * cr, y + 116_130 * cb]
        .map(|value| ((value + (1 << 15)) >> 16).clamp(0, 255) as u8)
}

/// `a · b / 255`, rounded.
fn product(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    ((product + (product >> 8)) >> 8) as u8
}
