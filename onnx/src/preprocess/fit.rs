//! Resizing and cutting on 8-bit pixels.
//!
//! The resampler works in fixed point with filter weights from polynomials in f64, so its answers do not depend on the CPU.

use clr_adapters::{Filter, Fit, Preprocessing};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use super::image_view::ImageView;

/// The picture brought to the input size; see [`super::Preprocess::fit`].
pub(super) fn fit(to: &Preprocessing, image: ImageView<'_>) -> RgbImage {
    let picture = image.pixels;
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 || to.width == 0 || to.height == 0 {
        return RgbImage::new(to.width, to.height);
    }
    let cut = cut(to, image.size).reduced(image);
    let filter = match to.filter {
        Filter::Bicubic => FilterType::CatmullRom,
        _ => FilterType::Bilinear,
    };
    // Between the two passes values are rounded and clipped to bytes, so with a filter that overshoots their order can be seen.
    // Rows first, then columns, is Pillow's order, save for pictures that the columns would shrink much more.
    let (target_width, target_height) = (f64::from(to.width), f64::from(to.height));
    let pixels = if 4.0 * target_width * cut.height > 5.0 * cut.width * target_height {
        resample(picture.as_raw(), [width, height], cut, [to.width, to.height], filter)
    } else {
        let (first, count) = cut.rows(height, to.height);
        let rows = Cut {
            top: f64::from(first),
            height: f64::from(count),
            ..cut
        };
        let columns = Cut {
            left: 0.0,
            width: target_width,
            top: cut.top - rows.top,
            ..cut
        };
        let narrow = resample(picture.as_raw(), [width, height], rows, [to.width, count], filter);
        resample(&narrow, [to.width, count], columns, [to.width, to.height], filter)
    };
    RgbImage::from_raw(to.width, to.height, pixels).expect("the buffer fills its size")
}

/// By how much an image of `[width, height]` may be reduced before it is fitted: 8, 4, 2, or 1 for not at all.
///
/// At least three pixels are left for one of the input, on either axis: the antialiased filter averages over twice as many, so that
/// what the reduction does to the highest frequencies is hardly seen (Pillow's `reducing_gap` recommends the same).
pub(super) fn reduction(to: &Preprocessing, size: [u32; 2]) -> u32 {
    const GAP: f64 = 3.0;
    if to.width == 0 || to.height == 0 || size.contains(&0) {
        return 1;
    }
    let cut = cut(to, size);
    let ratio = (cut.width / f64::from(to.width)).min(cut.height / f64::from(to.height));
    [8, 4, 2]
        .into_iter()
        .find(|&factor| ratio >= GAP * f64::from(factor))
        .unwrap_or(1)
}

/// The part of a source of `[width, height]` that becomes the input.
fn cut(to: &Preprocessing, [width, height]: [u32; 2]) -> Cut {
    match to.fit {
        Fit::CenterCrop { fraction } => center_cut([width, height], [to.width, to.height], f64::from(fraction)),
        _ => Cut {
            left: 0.0,
            top: 0.0,
            width: f64::from(width),
            height: f64::from(height),
        },
    }
}

/// The part `cut` of an RGB picture resampled to another size, sizes being `[width, height]`; columns first, then rows.
fn resample(pixels: &[u8], size: [u32; 2], cut: Cut, to: [u32; 2], filter: FilterType) -> Vec<u8> {
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .use_alpha(false)
        .crop(cut.left, cut.top, cut.width, cut.height);
    let mut out = vec![0; 3 * to[0] as usize * to[1] as usize];
    // Typed, so that the resampler is compiled for this kind of pixel alone.
    TypedImageRef::<U8x3>::from_buffer(size[0], size[1], pixels)
        .ok()
        .zip(TypedImage::<U8x3>::from_buffer(to[0], to[1], &mut out).ok())
        .and_then(|(source, mut target)| Resizer::new().resize_typed(&source, &mut target, &options).ok())
        .expect("both buffers fill their sizes and the cut lies inside the picture");
    out
}

/// A part of the source picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Cut {
    /// The cut of the stored image in the pixels of the reduced one: exact, as factors are powers of two.
    fn reduced(self, image: ImageView<'_>) -> Self {
        let factor = f64::from(image.factor);
        let [left, top] = image.missing.map(f64::from);
        Self {
            left: (self.left + left) / factor,
            top: (self.top + top) / factor,
            width: self.width / factor,
            height: self.height / factor,
        }
    }

    /// First and number of the source's rows, of `height`, that a filter of support 2 can reach when the cut becomes `target` rows.
    fn rows(self, height: u32, target: u32) -> (u32, u32) {
        let margin = (2.0 * (self.height / f64::from(target)).max(1.0)).ceil() + 1.0;
        let first = (self.top.floor() - margin).max(0.0) as u32;
        let end = ((self.top + self.height).ceil() + margin).min(f64::from(height)) as u32;
        (first, end - first)
    }
}

/// The part of the source that lands in the centre cut, all `[width, height]`.
///
/// As torchvision does it: the axis that decides is scaled to `size / fraction`, the other in proportion and rounded down,
/// then the cut is placed at whole pixels of the scaled picture, half a pixel going to the even side. Resampling straight from that part is
/// the same as resizing all and cutting then, without computing what is cut away.
fn center_cut(source: [u32; 2], target: [u32; 2], fraction: f64) -> Cut {
    let fraction = if fraction > 0.0 && fraction <= 1.0 {
        fraction
    } else {
        1.0
    };
    let source = source.map(f64::from);
    let target = target.map(f64::from);
    // The axis on which the scaled picture is tightest around the cut decides.
    let tight = usize::from(target[1] / source[1] > target[0] / source[0]);
    let scaled_tight = (target[tight] / fraction).round();
    let part = [0, 1].map(|axis| {
        let scaled = if axis == tight {
            scaled_tight
        } else {
            (scaled_tight * source[axis] / source[tight]).floor()
        };
        let scaled = scaled.max(target[axis]);
        let ratio = source[axis] / scaled;
        let start = ((scaled - target[axis]) / 2.0).round_ties_even() * ratio;
        (start, (target[axis] * ratio).min(source[axis] - start))
    });
    Cut {
        left: part[0].0,
        top: part[1].0,
        width: part[0].1,
        height: part[1].1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn center_cut_places_the_cut_where_torchvision_does() {
        // 640 × 480 → 341 × 256 → 224 × 224 at (58, 16): round(58.5) goes to the even 58.
        let cut = center_cut([640, 480], [224, 224], 0.875);
        let (x, y) = (640.0 / 341.0, 480.0 / 256.0);
        assert_eq!(
            cut,
            Cut {
                left: 58.0 * x,
                top: 16.0 * y,
                width: 224.0 * x,
                height: 224.0 * y
            }
        );
    }

    #[test]
    fn center_cut_takes_everything_when_the_fraction_is_one_and_the_aspect_fits() {
        let cut = center_cut([100, 50], [20, 10], 1.0);
        assert_eq!(
            cut,
            Cut {
                left: 0.0,
                top: 0.0,
                width: 100.0,
                height: 50.0
            }
        );
    }
}
