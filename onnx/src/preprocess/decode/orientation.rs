//! EXIF orientation, applied to the reduced image.

use image::{DynamicImage, RgbImage, metadata::Orientation};

/// Returns whether width and height change places.
fn swaps(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

/// Width and height as they are to be seen.
pub(super) fn size([width, height]: [u32; 2], orientation: Orientation) -> [u32; 2] {
    if swaps(orientation) {
        [height, width]
    } else {
        [width, height]
    }
}

/// What is at the right and lower edge as stored, as far as it is seen at the left and upper edge.
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

/// Returns the orientation in a TIFF structure as EXIF has it; upright where there is none.
pub(super) fn of_exif(tiff: Option<&[u8]>) -> Orientation {
    tiff.and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}
