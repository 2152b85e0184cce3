//! Planes to RGB.

use std::collections::TryReserveError;

use image::RgbImage;

use super::{
    super::reduce::zeroed,
    frame::{Colour, Frame},
    planes::Plane,
};

/// The image of `size` pixels from planes that were reduced by `factor`.
pub(super) fn assemble(
    frame: &Frame,
    colour: Colour,
    planes: &[Plane],
    factor: u32,
    size: [u32; 2],
) -> Result<RgbImage, TryReserveError> {
    let [width, height] = size;
    let mut pixels = zeroed(3 * width as usize * height as usize)?;
    // Samples of a component for `per` pixels of the image: one for one, or fewer where it was stored with fewer.
    let scales: Vec<[[usize; 2]; 2]> = planes
        .iter()
        .zip(&frame.components)
        .map(|(plane, component)| {
            [0, 1].map(|axis| {
                let samples = component.sampling[axis] as usize * plane.side;
                [samples, frame.most[axis] as usize * (8 / factor) as usize]
            })
        })
        .collect();
    for (y, row) in pixels.chunks_exact_mut(3 * width as usize).enumerate() {
        let rows: Vec<(&[u8], [usize; 2])> = planes
            .iter()
            .zip(&scales)
            .map(|(plane, [across, [samples, per]])| {
                let stride = plane.stride();
                let start = y * samples / per * stride;
                (&plane.samples[start..start + stride], *across)
            })
            .collect();
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let at = |component: usize| {
                let (row, [samples, per]) = rows[component];
                if samples == per {
                    row[x]
                } else if 2 * samples == per {
                    between(row, x)
                } else {
                    row[x * samples / per]
                }
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

/// Sample `x` of a row of half as many, three quarters of the nearest and one of the next (ITU T.81 places them in the middle of two).
fn between(row: &[u8], x: usize) -> u8 {
    let near = x / 2;
    let next = if x.is_multiple_of(2) {
        near.saturating_sub(1)
    } else {
        (near + 1).min(row.len() - 1)
    };
    ((3 * u32::from(row[near]) + u32::from(row[next]) + 2) / 4) as u8
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
