//! Canary images from a seed: the same pixels on every platform, without their bytes in the file.

use alloc::vec::Vec;

/// Cells of the coarse pattern along one side.
const CELLS: usize = 4;
/// Largest change of a pixel by the fine pattern.
const FINE: i32 = 20;

/// Returns the RGB pixels `[height, width, 3]` of a seed: for each channel, a coarse random pattern, interpolated, and
/// fine noise.
#[must_use]
pub fn noise_image(seed: u64, size: [u16; 2]) -> Vec<u8> {
    let [width, height] = size.map(usize::from);
    let corners = CELLS + 1;
    let corner = |channel: usize, row: usize, column: usize| {
        let address = (channel * corners + row) * corners + column;
        i64::from(mixed(seed, address as u64) as u8)
    };
    let mut pixels = Vec::with_capacity(3 * width * height);
    for row in 0..height {
        for column in 0..width {
            for channel in 0..3 {
                let (top, down) = split(row, height);
                let (left, right) = split(column, width);
                let at = |below: usize, after: usize| corner(channel, top + below, left + after);
                let upper = at(0, 0) * (256 - right) + at(0, 1) * right;
                let lower = at(1, 0) * (256 - right) + at(1, 1) * right;
                let coarse = (upper * (256 - down) + lower * down) >> 16;
                let address = 1_000 + (row * width + column) * 3 + channel;
                let fine = (mixed(seed, address as u64) % (2 * FINE as u64 + 1)) as i32 - FINE;
                pixels.push((coarse as i32 + fine).clamp(0, 255) as u8);
            }
        }
    }
    pixels
}

/// Returns the cell of a position, and how far into the cell it is, in 256ths.
fn split(position: usize, length: usize) -> (usize, i64) {
    let scaled = position * CELLS * 256 / length.max(1);
    (scaled / 256, (scaled % 256) as i64)
}

/// Mixes a seed and an address (SplitMix64).
fn mixed(seed: u64, address: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .wrapping_add(address.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_differ_by_seed_and_use_the_whole_range() {
        let images: Vec<_> = (0..20).map(|seed| noise_image(seed, [32, 24])).collect();
        assert!(images.iter().all(|image| image.len() == 3 * 32 * 24));
        assert!((1..20).all(|seed| images[seed] != images[0]));
        let all = || images.iter().flatten();
        assert!(all().max() > Some(&235) && all().min() < Some(&20));
    }

    /// Devices with other processors and newer programs must draw the same pixels.
    #[test]
    fn the_pixels_of_a_seed_never_change() {
        let digest = crate::Digest::of(&noise_image(7, [32, 32]));
        assert_eq!(digest.short(), "50310047fddb");
    }
}
