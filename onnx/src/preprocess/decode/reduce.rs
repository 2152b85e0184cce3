//! Area averaging of rows during decoding, so that a large image is never in memory at full size.

use std::collections::TryReserveError;

use image::RgbImage;

/// Averages blocks of `factor` × `factor` pixels. Blocks at the right and lower edge may be smaller.
#[derive(Debug)]
pub(super) struct Reducer {
    factor: u32,
    /// Width and height of the source.
    size: [u32; 2],
    /// Width and height of the result.
    reduced: [u32; 2],
    /// Sums of the blocks in one row of the result. If the pixels arrive in any order, sums of the blocks in all rows.
    sums: Vec<u32>,
    pixels: Vec<u8>,
}

/// Returns the size after a reduction.
pub(super) fn reduced([width, height]: [u32; 2], factor: u32) -> [u32; 2] {
    [width.div_ceil(factor), height.div_ceil(factor)]
}

/// Returns a vector of zeros, or an error if the system has no memory for it.
pub(super) fn zeroed<T: Copy + Default>(length: usize) -> Result<Vec<T>, TryReserveError> {
    let mut values = Vec::new();
    values.try_reserve_exact(length)?;
    values.resize(length, T::default());
    Ok(values)
}

/// Extends partial blocks at the right and lower edge to complete ones, by continuing the neighbouring block.
///
/// A resampler assumes that all blocks are complete, so it would give the few pixels of a partial block too much
/// weight.
pub(super) fn fill_edges(mut image: RgbImage, size: [u32; 2], factor: u32) -> RgbImage {
    let [columns, rows] = size.map(|size| size % factor);
    let (width, height) = image.dimensions();
    let mut fill = |[x, y]: [u32; 2], [from_x, from_y]: [u32; 2], there: u32| {
        let before = image.get_pixel(from_x, from_y).0;
        for (value, before) in image.get_pixel_mut(x, y).0.iter_mut().zip(before) {
            let sum = there * u32::from(*value) + (factor - there) * u32::from(before);
            *value = ((sum + factor / 2) / factor) as u8;
        }
    };
    if columns > 0 && width > 1 {
        (0..height).for_each(|y| fill([width - 1, y], [width - 2, y], columns));
    }
    if rows > 0 && height > 1 {
        (0..width).for_each(|x| fill([x, height - 1], [x, height - 2], rows));
    }
    image
}

impl Reducer {
    /// Creates a reducer for rows from top to bottom or, with `scattered`, for pixels in any order.
    pub(super) fn new(size: [u32; 2], factor: u32, scattered: bool) -> Result<Self, TryReserveError> {
        let [width, height] = reduced(size, factor);
        let row = 3 * width as usize;
        let sums = match factor {
            1 => 0,
            _ if scattered => row * height as usize,
            _ => row,
        };
        Ok(Self {
            factor,
            size,
            reduced: [width, height],
            sums: zeroed(sums)?,
            pixels: zeroed(row * height as usize)?,
        })
    }

    /// Returns the bytes that a reducer needs.
    pub(super) fn bytes(size: [u32; 2], factor: u32, scattered: bool) -> u64 {
        let [width, height] = reduced(size, factor).map(u64::from);
        let sums = match factor {
            1 => 0,
            _ if scattered => 12 * width * height,
            _ => 12 * width,
        };
        3 * width * height + sums
    }

    /// Adds row `y`, RGB.
    pub(super) fn row(&mut self, y: u32, rgb: &[u8]) {
        let length = 3 * self.reduced[0] as usize;
        if self.factor == 1 {
            let at = y as usize * length;
            self.pixels[at..at + length].copy_from_slice(rgb);
            return;
        }
        for (sums, block) in self.sums.chunks_exact_mut(3).zip(rgb.chunks(3 * self.factor as usize)) {
            for pixel in block.chunks_exact(3) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += u32::from(value);
                }
            }
        }
        if (y + 1).is_multiple_of(self.factor) || y + 1 == self.size[1] {
            self.write(y / self.factor, 0);
            self.sums.fill(0);
        }
    }

    /// Adds one pixel.
    pub(super) fn pixel(&mut self, x: u32, y: u32, rgb: [u8; 3]) {
        let (x, y) = ((x / self.factor) as usize, (y / self.factor) as usize);
        let at = 3 * (y * self.reduced[0] as usize + x);
        if self.factor == 1 {
            self.pixels[at..at + 3].copy_from_slice(&rgb);
        } else {
            for (sum, value) in self.sums[at..at + 3].iter_mut().zip(rgb) {
                *sum += u32::from(value);
            }
        }
    }

    /// Writes row `y` of the result from the sums that start at `from`.
    fn write(&mut self, y: u32, from: usize) {
        let factor = self.factor;
        let count = |size: u32, block: u32| factor.min(size - block * factor);
        let rows = count(self.size[1], y);
        let length = 3 * self.reduced[0] as usize;
        let out = &mut self.pixels[y as usize * length..][..length];
        for (x, (out, sums)) in out
            .chunks_exact_mut(3)
            .zip(self.sums[from..].chunks_exact(3))
            .enumerate()
        {
            let count = rows * count(self.size[0], x as u32);
            for (value, sum) in out.iter_mut().zip(sums) {
                *value = ((sum + count / 2) / count) as u8;
            }
        }
    }

    /// Returns the reduced image.
    pub(super) fn finish(mut self, scattered: bool) -> RgbImage {
        if scattered && self.factor > 1 {
            for y in 0..self.reduced[1] {
                self.write(y, 3 * self.reduced[0] as usize * y as usize);
            }
        }
        let [width, height] = self.reduced;
        RgbImage::from_raw(width, height, self.pixels).expect("the buffer fills its size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_averaged_also_at_the_edges_and_in_any_order() {
        let [width, height] = [5, 3];
        let value = |x: u32, y: u32| [x as u8 * 10, y as u8 * 20, (x * y) as u8];
        let mut rows = Reducer::new([width, height], 2, false).unwrap();
        let mut pixels = Reducer::new([width, height], 2, true).unwrap();
        for y in 0..height {
            let row: Vec<u8> = (0..width).flat_map(|x| value(x, y)).collect();
            rows.row(y, &row);
            for x in (0..width).rev() {
                pixels.pixel(x, y, value(x, y));
            }
        }
        let (rows, pixels) = (rows.finish(false), pixels.finish(true));
        assert_eq!(rows, pixels);
        assert_eq!(rows.dimensions(), (3, 2));
        assert_eq!(rows.get_pixel(0, 0).0, [5, 10, 0]);
        // The last column and row contain a single pixel, (4, 2).
        assert_eq!(rows.get_pixel(2, 1).0, [40, 40, 8]);
        assert_eq!(rows.get_pixel(2, 0).0, [40, 10, 2]);
    }
}
