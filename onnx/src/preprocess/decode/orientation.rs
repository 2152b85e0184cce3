//! EXIF orientation, which is applied to the reduced image.

use image::{DynamicImage, RgbImage, metadata::Orientation};

/// Returns whether width and height are exchanged.
fn swaps(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

/// Returns width and height as displayed.
pub(super) fn size([width, height]: [u32; 2], orientation: Orientation) -> [u32; 2] {
    if swaps(orientation) {
        [height, width]
    } else {
        [width, height]
    }
}

/// Returns how many pixels the first displayed column and row lack. `after` is the same for the right and lower edge as
/// stored.
pub(super) fn before(after: [u32; 2], orientation: Orientation) -> [u32; 2] {
    let [x, y] = size(after, orientation);
    match orientation {
        Orientation::NoTransforms | Orientation::Rotate90FlipH => [0, 0],
        Orientation::FlipHorizontal | Orientation::Rotate90 => [x, 0],
        Orientation::FlipVertical | Orientation::Rotate270 => [0, y],
        Orientation::Rotate180 | Orientation::Rotate270FlipH => [x, y],
    }
}

/// Returns the image in its upright orientation.
pub(super) fn apply(image: RgbImage, orientation: Orientation) -> RgbImage {
    if orientation == Orientation::NoTransforms {
        return image;
    }
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    image.into_rgb8()
}

/// Returns the orientation in the TIFF structure of EXIF data; upright if there is none.
pub(super) fn of_exif(tiff: Option<&[u8]>) -> Orientation {
    tiff.and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}
