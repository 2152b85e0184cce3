//! Antialiased resampling of 8-bit RGB, bit-identical to Pillow's `Image.resize`.
//!
//! The filter is separable. The horizontal pass comes first, or the vertical one if the height shrinks by more than
//! twice as many pixels as the width. Each pass rounds and clips to bytes. Weights are computed and normalised in f64,
//! rounded to 22 fractional bits and summed in i32, so the pixels do not depend on the CPU. Only the requested outputs
//! are computed, from the rows and columns that they depend on.

#![expect(
    clippy::inline_always,
    reason = "both passes are compiled into the function that has the instruction set"
)]

mod axis;
mod horizontal;
#[cfg(test)]
mod tests;
mod vertical;

use std::array;

use image::RgbImage;

pub(super) use axis::Axis;
use horizontal::horizontal;
use vertical::vertical;

/// Fractional bits of a weight: 32, minus 8 for a byte and 2 for sums outside of 0 to 255.
const FRACTION_BITS: u32 = 32 - 8 - 2;
/// One half, the start value of sums, so that the shift rounds to nearest.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Resamples an image. The result has `columns.count` × `rows.count` pixels.
pub(super) fn resample(image: &RgbImage, columns: &Axis, rows: &Axis) -> RgbImage {
    let pixels = pulp::Arch::new().dispatch(Resample { image, columns, rows });
    RgbImage::from_raw(columns.count, rows.count, pixels).expect("the buffer fills its size")
}

/// Rows of RGB pixels, `stride` bytes apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    pixels: &'a [u8],
    stride: usize,
    /// The first row and column of the image.
    top: u32,
    left: u32,
}

impl<'a> Rows<'a> {
    /// Returns the bytes from a row's column on.
    #[inline(always)]
    fn from(&self, row: u32, column: u32) -> &'a [u8] {
        &self.pixels[(row - self.top) as usize * self.stride + 3 * (column - self.left) as usize..]
    }
}

struct Resample<'a> {
    image: &'a RgbImage,
    columns: &'a Axis,
    rows: &'a Axis,
}

impl pulp::WithSimd for Resample<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Vec<u8> {
        let Self { image, columns, rows } = self;
        let (width, height) = image.dimensions();
        let source = Rows {
            pixels: image.as_raw(),
            stride: 3 * width as usize,
            top: 0,
            left: 0,
        };
        // Both passes round, so their order affects the result. This order is that of Pillow 13; earlier versions
        // differ for tall images.
        let [fewer_columns, fewer_rows] =
            [(width, columns), (height, rows)].map(|(side, axis)| f64::from(side) - axis.target);
        if fewer_rows > 0.0 && fewer_rows > 2.0 * fewer_columns {
            let span = columns.span();
            let pixels = vertical(source, span.clone(), rows);
            let between = Rows {
                pixels: &pixels,
                stride: 3 * span.len(),
                top: 0,
                left: span.start,
            };
            horizontal(between, 0..rows.count, columns)
        } else {
            let span = rows.span();
            let pixels = horizontal(source, span.clone(), columns);
            let between = Rows {
                pixels: &pixels,
                stride: 3 * columns.count as usize,
                top: span.start,
                left: 0,
            };
            vertical(between, 0..columns.count, rows)
        }
    }
}

/// Returns sums of weighted bytes, each rounded to a byte. `tap` returns the bytes that a weight multiplies.
///
/// The sums do not fit in registers, so eight taps are added at a time if there are as many.
#[inline(always)]
fn weighted<'a, const LANES: usize>(weights: &[i32], tap: impl Fn(usize) -> &'a [u8; LANES]) -> [u8; LANES] {
    let mut sums = [HALF; LANES];
    let (eights, rest) = weights.as_chunks::<8>();
    for (index, weights) in eights.iter().enumerate() {
        add(&mut sums, weights, array::from_fn(|of| tap(8 * index + of)));
    }
    let (pairs, rest) = rest.as_chunks::<2>();
    for (index, weights) in pairs.iter().enumerate() {
        add(
            &mut sums,
            weights,
            array::from_fn(|of| tap(8 * eights.len() + 2 * index + of)),
        );
    }
    for weight in rest {
        add(&mut sums, &[*weight], [tap(weights.len() - 1)]);
    }
    let mut bytes = [0; LANES];
    for (byte, sum) in bytes.iter_mut().zip(sums) {
        *byte = (sum >> FRACTION_BITS).clamp(0, 255) as u8;
    }
    bytes
}

#[inline(always)]
fn add<const LANES: usize, const TAPS: usize>(
    sums: &mut [i32; LANES],
    weights: &[i32; TAPS],
    bytes: [&[u8; LANES]; TAPS],
) {
    for lane in 0..LANES {
        let mut sum = sums[lane];
        for tap in 0..TAPS {
            sum = sum.wrapping_add(weights[tap].wrapping_mul(i32::from(bytes[tap][lane])));
        }
        sums[lane] = sum;
    }
}
