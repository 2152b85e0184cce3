//! Resizing and cutting on 8-bit pixels.
//!
//! The resampler works in fixed point with filter weights from polynomials in f64, so its answers do not depend on the CPU.

use clr_adapters::{Filter, Fit, Preprocessing};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

/// The picture brought to the input size; see [`super::Preprocess::fit`].
pub(super) fn fit(to: &Preprocessing, picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 || to.width == 0 || to.height == 0 {
        return RgbImage::new(to.width, to.height);
    }
    let cut = match to.fit {
        Fit::CenterCrop { fraction } => center_cut([width, height], [to.width, to.height], f64::from(fraction)),
        _ => Cut {
            left: 0.0,
            top: 0.0,
            width: f64::from(width),
            height: f64::from(height),
        },
    };
    let filter = match to.filter {
        Filter::Bicubic => FilterType::CatmullRom,
        _ => FilterType::Bilinear,
    };
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .use_alpha(false)
        .crop(cut.left, cut.top, cut.width, cut.height);
    let mut out = vec![0; 3 * to.width as usize * to.height as usize];
    ImageRef::new(width, height, picture.as_raw(), PixelType::U8x3)
        .ok()
        .zip(Image::from_slice_u8(to.width, to.height, &mut out, PixelType::U8x3).ok())
        .and_then(|(source, mut target)| Resizer::new().resize(&source, &mut target, &options).ok())
        .expect("both buffers fill their sizes and the cut lies inside the picture");
    RgbImage::from_raw(to.width, to.height, out).expect("the buffer fills its size")
}

/// A part of the source picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
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
