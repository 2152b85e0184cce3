//! Decoding within limits, for every format: damage, reduction and refusals.

mod bombs;
mod damage;
mod reduction;
mod unread;

use std::io::Cursor;

use clr_adapters::{Fit, Preprocessing};
use image::{DynamicImage, ImageFormat, RgbImage, codecs::jpeg::JpegEncoder};

use super::*;
use crate::preprocess::imagenet_preprocessing;

/// Files written by Pillow, 203 × 157 pixels: baseline and progressive, with and without restart markers, with all
/// common samplings.
const JPEGS: [(&str, &[u8]); 10] = [
    ("baseline_420", include_bytes!("../fixtures/baseline_420.jpg")),
    ("baseline_422", include_bytes!("../fixtures/baseline_422.jpg")),
    ("baseline_444", include_bytes!("../fixtures/baseline_444.jpg")),
    ("progressive_420", include_bytes!("../fixtures/progressive_420.jpg")),
    ("progressive_444", include_bytes!("../fixtures/progressive_444.jpg")),
    ("grey", include_bytes!("../fixtures/grey.jpg")),
    ("progressive_grey", include_bytes!("../fixtures/progressive_grey.jpg")),
    ("cmyk", include_bytes!("../fixtures/cmyk.jpg")),
    ("restart_420", include_bytes!("../fixtures/restart_420.jpg")),
    (
        "progressive_restart",
        include_bytes!("../fixtures/progressive_restart.jpg"),
    ),
];

/// Returns an input of `side` × `side` pixels, to which the complete image is scaled.
fn input(side: u32) -> Preprocessing {
    Preprocessing {
        height: side,
        width: side,
        fit: Fit::Stretch,
        ..imagenet_preprocessing()
    }
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Returns a smooth image with some edges.
fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |a: u32, b: u32| 127.0 + 90.0 * (f64::from(a) / 19.0).sin() + 30.0 * (f64::from(b) / 7.0).cos();
        let edge = if (x / 31 + y / 23).is_multiple_of(3) { 35.0 } else { 0.0 };
        image::Rgb([wave(x, y), wave(y, x), wave(x + y, x)].map(|value| (value + edge) as u8))
    })
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 80)
        .encode_image(image)
        .unwrap();
    bytes
}

/// Returns all decodable files: the fixtures, and one file of each other format.
fn sound() -> Vec<(String, Vec<u8>)> {
    let image = DynamicImage::ImageRgb8(scene(203, 157));
    let mut files: Vec<(String, Vec<u8>)> = JPEGS
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
        .collect();
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Gif] {
        files.push((format!("{format:?}"), encoded(&image, format)));
    }
    files.push(("Pnm".to_owned(), encoded(&image, ImageFormat::Pnm)));
    #[cfg(feature = "tiff")]
    for (name, image) in [
        ("Tiff", image.clone()),
        ("Tiff of 16 bits", image.to_rgb16().into()),
        ("Tiff with alpha", image.to_rgba8().into()),
        ("grey Tiff", image.to_luma8().into()),
    ] {
        files.push((name.to_owned(), encoded(&image, ImageFormat::Tiff)));
    }
    for (name, bytes) in [
        ("lossy WebP", &include_bytes!("../fixtures/lossy.webp")[..]),
        ("lossy WebP with alpha", include_bytes!("../fixtures/lossy_alpha.webp")),
        ("lossless WebP", include_bytes!("../fixtures/lossless.webp")),
        (
            "lossless WebP of few colours",
            include_bytes!("../fixtures/lossless_palette.webp"),
        ),
    ] {
        files.push((name.to_owned(), bytes.to_vec()));
    }
    files
}

fn decode_within(limits: DecodeLimits, bytes: &[u8], inputs: &[&Preprocessing]) -> Result<RgbImage, ImageError> {
    let decoded = ImageDecoder::new(limits).decode(bytes, "file", inputs)?;
    Ok(decoded.pixels().clone())
}
