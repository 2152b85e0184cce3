//! Perceptual fingerprint: signs of the brightness steps between the cells of a 17×17 grid.
//!
//! A fingerprint has four planes of 16×16 bits, one for each direction in which the brightness increases: right, left,
//! down and up. A bit is set if the step is more than 4 of 255, so flat areas set no bits. Resizing, recompression and
//! slight noise change few bits.
//!
//! Two images are near-duplicates if they share at least nine tenths of the bits that are set in either image. At least
//! 24 bits must be set in either. Colour is ignored.

use image::{GrayImage, imageops};

/// An image with fewer bits resembles many others, so only equal pixels make it a duplicate.
const LEAST_BITS: u32 = 24;
/// Smaller brightness steps count as flat.
const STEP: i32 = 4;

/// A fingerprint of 1,024 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u64; 16]);

impl Fingerprint {
    /// Returns the fingerprint of an image of any size.
    pub fn of(image: &GrayImage) -> Self {
        let grid = imageops::resize(image, 17, 17, imageops::FilterType::Triangle);
        let at = |x: u32, y: u32| i32::from(grid.get_pixel(x, y).0[0]);
        let mut words = [0_u64; 16];
        let mut set = |plane: usize, x: u32, y: u32| {
            let bit = (y * 16 + x) as usize;
            words[plane * 4 + bit / 64] |= 1 << (bit % 64);
        };
        for y in 0..16 {
            for x in 0..16 {
                let (here, right, below) = (at(x, y), at(x + 1, y), at(x, y + 1));
                if right - here > STEP {
                    set(0, x, y);
                }
                if here - right > STEP {
                    set(1, x, y);
                }
                if below - here > STEP {
                    set(2, x, y);
                }
                if here - below > STEP {
                    set(3, x, y);
                }
            }
        }
        Self(words)
    }

    /// Returns the Jaccard distance: the number of bits that are set in only one fingerprint, divided by the number of
    /// bits that are set in either. Returns `None` if too few bits are set.
    pub fn distance(&self, other: &Self) -> Option<f32> {
        let (mut differ, mut either) = (0, 0);
        for (a, b) in self.0.iter().zip(&other.0) {
            differ += (a ^ b).count_ones();
            either += (a | b).count_ones();
        }
        (either >= LEAST_BITS).then(|| differ as f32 / either as f32)
    }

    /// Returns whether two images are near-duplicates.
    pub fn is_near(&self, other: &Self) -> bool {
        self.distance(other).is_some_and(|distance| distance <= 0.1)
    }

    fn weight(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// Returns all pairs `(i, j)` of near-duplicates with `i < j`. The time is quadratic, but images whose numbers of bits
/// differ by more than a tenth are not compared.
pub fn near_pairs(fingerprints: &[Fingerprint]) -> Vec<(usize, usize)> {
    let mut order: Vec<(u32, usize)> = fingerprints
        .iter()
        .enumerate()
        .map(|(index, print)| (print.weight(), index))
        .collect();
    order.sort_unstable();
    let mut pairs = Vec::new();
    for (position, &(weight, index)) in order.iter().enumerate() {
        for &(heavier, other) in &order[position + 1..] {
            // |a ^ b| ≥ heavier − weight and |a | b| ≤ heavier + weight.
            // Near-duplicates need |a & b| ≥ 0.9 |a | b| ≥ 0.9 heavier.
            if f64::from(heavier) * 0.9 > f64::from(weight) {
                break;
            }
            if fingerprints[index].is_near(&fingerprints[other]) {
                pairs.push((index.min(other), index.max(other)));
            }
        }
    }
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    fn waves(width: u32, height: u32, frequency: f32, phase: f32) -> GrayImage {
        GrayImage::from_fn(width, height, |x, y| {
            let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
            Luma([(127.0 + 60.0 * (frequency * u * 6.3 + phase).sin() + 60.0 * (frequency * v * 6.3).cos()) as u8])
        })
    }

    #[test]
    fn a_resized_or_noisy_copy_is_near_and_another_image_is_not() {
        let original = Fingerprint::of(&waves(100, 100, 2.0, 0.3));
        assert!(original.is_near(&Fingerprint::of(&waves(160, 160, 2.0, 0.3))));
        let mut noisy = waves(100, 100, 2.0, 0.3);
        for (index, pixel) in noisy.pixels_mut().enumerate() {
            pixel.0[0] = pixel.0[0].saturating_add((index % 3) as u8);
        }
        assert!(original.is_near(&Fingerprint::of(&noisy)));
        assert!(!original.is_near(&Fingerprint::of(&waves(100, 100, 3.0, 1.3))));
    }

    #[test]
    fn flat_images_are_never_near() {
        let flat = Fingerprint::of(&GrayImage::from_pixel(30, 30, Luma([200])));
        assert!(!flat.is_near(&flat));
    }

    #[test]
    fn the_pairs_are_those_of_the_full_comparison() {
        let prints: Vec<Fingerprint> = (0..40)
            .map(|index| {
                Fingerprint::of(&waves(
                    40,
                    40,
                    1.0 + (index % 7) as f32 * 0.5,
                    (index / 7) as f32 * 0.02,
                ))
            })
            .collect();
        let mut expected = Vec::new();
        for i in 0..prints.len() {
            for j in i + 1..prints.len() {
                if prints[i].is_near(&prints[j]) {
                    expected.push((i, j));
                }
            }
        }
        assert!(!expected.is_empty());
        assert_eq!(near_pairs(&prints), expected);
    }
}
