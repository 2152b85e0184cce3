//! Resizing and cropping of 8-bit pixels.

use clr_adapters::{Fit, Preprocessing};
use image::RgbImage;

use super::{
    image_view::ImageView,
    resample::{Axis, resample},
};

/// Returns the image scaled to the input size; see [`super::Preprocess::fit`].
pub(super) fn fit(to: &Preprocessing, image: ImageView<'_>) -> RgbImage {
    let (width, height) = image.pixels.dimensions();
    if [width, height, to.width, to.height].contains(&0) {
        return RgbImage::new(to.width, to.height);
    }
    let placed = placed(to, image.size);
    let axis = |axis: usize| Axis {
        source: [width, height][axis],
        // The result is exact, because factors are powers of two. Pillow takes a region in single precision.
        region: [image.missing[axis], image.size[axis]]
            .map(|length| f64::from(length as f32) / f64::from(image.factor)),
        target: placed[axis].scaled,
        first: placed[axis].start,
        count: [to.width, to.height][axis],
        filter: to.filter,
    };
    resample(image.pixels, &axis(0), &axis(1))
}

/// Returns by which factor an image of `[width, height]` may be reduced before it is fitted: 8, 4, 2, or 1 for no
/// reduction.
///
/// At least three pixels per input pixel remain on either axis. The antialiased filter averages over twice as many, so
/// the effect of the reduction on the highest frequencies is hardly visible (Pillow's `reducing_gap` recommends the
/// same).
pub(super) fn reduction(to: &Preprocessing, size: [u32; 2]) -> u32 {
    const GAP: f64 = 3.0;
    if to.width == 0 || to.height == 0 || size.contains(&0) {
        return 1;
    }
    let placed = placed(to, size);
    let ratio = |axis: usize| f64::from(size[axis]) / placed[axis].scaled;
    [8, 4, 2]
        .into_iter()
        .find(|&factor| ratio(0).min(ratio(1)) >= GAP * f64::from(factor))
        .unwrap_or(1)
}

/// Position of the input along an axis of the resized image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Placed {
    /// Pixels of the resized image.
    scaled: f64,
    /// The first pixel that is part of the input.
    start: f64,
}

/// Returns where the input is located in the resized source, per axis. Sizes are `[width, height]`.
fn placed(to: &Preprocessing, source: [u32; 2]) -> [Placed; 2] {
    let target = [to.width, to.height];
    match to.fit {
        Fit::CenterCrop { fraction } => center(source, target, f64::from(fraction)),
        _ => target.map(|target| Placed {
            scaled: f64::from(target),
            start: 0.0,
        }),
    }
}

/// Returns the centre crop as torchvision computes it. The deciding axis is scaled to `size / fraction`; the other is
/// scaled in proportion and rounded down. The crop starts at a whole pixel of the resized image, and half pixels are
/// rounded to even.
fn center(source: [u32; 2], target: [u32; 2], fraction: f64) -> [Placed; 2] {
    let fraction = if fraction > 0.0 && fraction <= 1.0 {
        fraction
    } else {
        1.0
    };
    let source = source.map(f64::from);
    let target = target.map(f64::from);
    // The deciding axis is the one on which the resized image exceeds the crop the least.
    let tight = usize::from(target[1] / source[1] > target[0] / source[0]);
    let scaled_tight = (target[tight] / fraction).round();
    [0, 1].map(|axis| {
        let scaled = if axis == tight {
            scaled_tight
        } else {
            (scaled_tight * source[axis] / source[tight]).floor()
        };
        let scaled = scaled.max(target[axis]);
        Placed {
            scaled,
            start: ((scaled - target[axis]) / 2.0).round_ties_even(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_centre_crop_equals_torchvisions() {
        // 640 × 480 → 341 × 256 → 224 × 224 at (58, 16), because 58.5 is rounded to the even 58.
        let placed = center([640, 480], [224, 224], 0.875);
        assert_eq!(
            placed.map(|axis| (axis.scaled, axis.start)),
            [(341.0, 58.0), (256.0, 16.0)]
        );
    }

    #[test]
    fn everything_is_taken_when_the_fraction_is_one_and_the_aspect_fits() {
        let placed = center([100, 50], [20, 10], 1.0);
        assert_eq!(placed.map(|axis| (axis.scaled, axis.start)), [(20.0, 0.0), (10.0, 0.0)]);
    }
}
