//! Images much larger than the input are reduced during decoding.

use super::*;
use crate::preprocess::Preprocess as _;

/// Means of blocks.
fn averaged(image: &RgbImage, factor: u32) -> RgbImage {
    let size = [image.width(), image.height()];
    let mut reducer = reduce::Reducer::new(size, factor, false).unwrap();
    for (y, row) in image.as_raw().chunks_exact(3 * size[0] as usize).enumerate() {
        reducer.row(y as u32, row);
    }
    reduce::fill_edges(reducer.finish(false), size, factor)
}

/// Returns the pixels of a file, reduced for the inputs.
fn reduced(bytes: &[u8], inputs: &[&Preprocessing]) -> RgbImage {
    decode_image_bytes_for(bytes, "file", inputs).unwrap().into()
}

/// Mean absolute difference of two images.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: u64 = a
        .as_raw()
        .iter()
        .zip(b.as_raw())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.as_raw().len() as f64
}

/// Factors, with the side of an input for which an image of 203 × 157 pixels is reduced by this factor.
const SIDES: [(u32, u32); 3] = [(2, 16), (4, 12), (8, 6)];

#[test]
fn jpegs_of_every_kind_are_reduced_as_if_by_averaging() {
    for (name, bytes) in JPEGS {
        let full = decode_image_bytes(bytes, name).unwrap();
        for (factor, side) in SIDES {
            let got = reduced(bytes, &[&input(side)]);
            let difference = difference(&got, &averaged(&full, factor));
            // A reduced transform is sharper than a mean, and keeps as much of the coarser chroma as possible.
            assert!(difference < 2.5, "{name} by {factor}: {difference}");
        }
    }
}

#[test]
fn other_formats_are_reduced_by_averaging() {
    let image = DynamicImage::ImageRgb8(scene(203, 157));
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        for (factor, side) in SIDES {
            let got = reduced(&encoded(&image, format), &[&input(side)]);
            assert_eq!(got, averaged(&scene(203, 157), factor), "{format:?} by {factor}");
        }
    }
}

#[test]
fn an_interlaced_png_is_reduced_as_any_other() {
    let bytes = include_bytes!("../fixtures/interlaced.png");
    let full = decode_image_bytes(bytes, "file").unwrap();
    assert_eq!(full, image::load_from_memory(bytes).unwrap().into_rgb8());
    for (factor, side) in SIDES {
        let got = reduced(bytes, &[&input(side)]);
        assert_eq!(got, averaged(&full, factor));
    }
}

#[test]
fn the_largest_input_decides_and_moderate_images_are_kept() {
    let bytes = jpeg(&scene(203, 157));
    let of = |sides: &[u32]| {
        let inputs: Vec<Preprocessing> = sides.iter().map(|&side| input(side)).collect();
        let inputs: Vec<&Preprocessing> = inputs.iter().collect();
        reduced(&bytes, &inputs).dimensions()
    };
    assert_eq!(of(&[27]), (203, 157));
    assert_eq!(of(&[26]), (102, 79));
    assert_eq!(of(&[6]), (26, 20));
    assert_eq!(of(&[6, 13]), (51, 40));
    assert_eq!(of(&[6, 100]), (203, 157));
    // A centre crop needs more pixels of the image than its own size.
    let cut = imagenet_preprocessing();
    let photo = |width, height| {
        let bytes = jpeg(&RgbImage::new(width, height));
        reduced(&bytes, &[&cut]).dimensions()
    };
    assert_eq!(photo(1920, 1080), (1920, 1080));
    assert_eq!(photo(2048, 1536), (1024, 768));
}

#[test]
fn orientation_is_applied_after_the_reduction() {
    // A TIFF header with one entry: Orientation (0x0112), SHORT, 1 value, 6 = rotate by 90° clockwise.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let image = scene(203, 157);
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
    encoder.encode_image(&image).unwrap();
    let turned = image::imageops::rotate90(&averaged(&image, 8));
    let got = reduced(&bytes, &[&input(6)]);
    assert!(difference(&got, &turned) < 3.0);
}

/// Returns the mean and the maximum difference between input values from reduced and from full-size pixels, and the
/// same for only the last column and row.
fn of_input(bytes: &[u8], side: u32, fit: Fit) -> [f64; 3] {
    let input = Preprocessing { fit, ..input(side) };
    let before = input.fit(&decode_image_bytes(bytes, "file").unwrap());
    let reduced = decode_image_bytes_for(bytes, "file", &[&input]).unwrap();
    assert!(reduced.pixels().width() < 110, "{side}");
    let after = input.fit(&reduced);
    let edge = |image: &RgbImage| {
        RgbImage::from_fn(2, side, |x, y| {
            *image.get_pixel(if x == 0 { side - 1 } else { y }, if x == 0 { y } else { side - 1 })
        })
    };
    let largest = before.as_raw().iter().zip(after.as_raw()).map(|(a, b)| a.abs_diff(*b));
    [
        difference(&before, &after),
        difference(&edge(&before), &edge(&after)),
        f64::from(largest.max().unwrap()),
    ]
}

#[test]
fn reduction_hardly_changes_the_network_input() {
    for (width, height) in [(203, 157), (192, 160), (201, 167), (199, 153), (207, 154)] {
        let image = DynamicImage::ImageRgb8(scene(width, height));
        let mut files: Vec<_> = [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP]
            .map(|format| (format!("{format:?}"), encoded(&image, format)))
            .into();
        files.push(("JPEG".to_owned(), jpeg(&scene(width, height))));
        if (width, height) == (203, 157) {
            files.extend(sound());
        }
        for (name, bytes) in files {
            for (factor, side) in SIDES {
                for fit in [Fit::Stretch, Fit::CenterCrop { fraction: 1.0 }] {
                    let found = of_input(&bytes, side, fit);
                    let within = found[0] < 1.2 && found[1] < 2.5 && found[2] < 10.0;
                    assert!(within, "{name} of {width} × {height} by {factor}: {found:?}");
                }
            }
        }
    }
}
