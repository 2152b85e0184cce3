//! Tests of decoding and preprocessing, grouped by property.

use std::io::Cursor;

use clr_adapters::{ChannelOrder, Digest, Filter, Fit, Preprocessing};
use image::codecs::{gif::GifEncoder, jpeg::JpegEncoder};
use image::{DynamicImage, Frame, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

use super::*;

/// Returns an image with edges, gradients and noise, identical on every machine.
pub(super) fn image(width: u32, height: u32) -> RgbImage {
    let mut state = 0x2545_f491_u32;
    RgbImage::from_fn(width, height, |x, y| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let checker = if (x / 7 + y / 5) % 2 == 0 { 200 } else { 20 };
        Rgb([(x * 255 / width) as u8, checker, (state >> 24) as u8])
    })
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("the image encodes");
    bytes.into_inner()
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The expected digests are those of torchvision's `Resize` and `CenterCrop`, or Pillow's `resize`, on the same image
/// (Pillow 13.0.0).
#[test]
fn same_pixels_give_the_pinned_tensor_bit_for_bit() {
    let bicubic_bgr = Preprocessing {
        height: 61,
        width: 97,
        fit: Fit::Stretch,
        channel_order: ChannelOrder::Bgr,
        ..efficientnet_lite_preprocessing(224)
    };
    let bilinear = Preprocessing {
        fit: Fit::Stretch,
        ..imagenet_preprocessing()
    };
    let pinned = [
        (imagenet_preprocessing(), "ca52fb2bdb1f 86c9bed45bdb"),
        (efficientnet_lite_preprocessing(240), "e228c2090acb 0a781b95a20a"),
        (bicubic_bgr, "29b3f677e2d1 dc8884ade413"),
        (bilinear, "6e52710ff190 017fc753698f"),
    ];
    let found = pinned.clone().map(|(preprocessing, _)| {
        [(333, 257), (64, 80)]
            .map(|(width, height)| Digest::of(&little_endian(&preprocessing.preprocess(&image(width, height)))).short())
            .join(" ")
    });
    assert_eq!(found.each_ref().map(String::as_str), pinned.map(|(_, digest)| digest));
}

#[test]
fn tensor_is_value_minus_mean_over_std_in_planes_of_the_channel_order() {
    let mut description = Preprocessing {
        height: 2,
        width: 3,
        fit: Fit::Stretch,
        ..imagenet_preprocessing()
    };
    let image = image(3, 2);
    let rgb = description.preprocess(&image);
    description.channel_order = ChannelOrder::Bgr;
    let bgr = description.preprocess(&image);
    for (index, pixel) in image.pixels().enumerate() {
        for channel in 0..3 {
            let normalise = |value: u8| (f32::from(value) - description.mean[channel]) / description.std[channel];
            assert_eq!(rgb[channel * 6 + index], normalise(pixel[channel]));
            assert_eq!(bgr[channel * 6 + index], normalise(pixel[2 - channel]));
        }
    }
}

#[test]
fn an_image_of_the_input_size_is_not_resampled() {
    let description = Preprocessing {
        height: 40,
        width: 30,
        fit: Fit::Stretch,
        ..imagenet_preprocessing()
    };
    assert_eq!(description.fit(&image(30, 40)), image(30, 40));
}

#[test]
fn every_size_fits_without_a_panic() {
    for fit in [
        Fit::Stretch,
        Fit::CenterCrop { fraction: 0.875 },
        Fit::CenterCrop { fraction: 1.0 },
        Fit::CenterCrop { fraction: f32::NAN },
    ] {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for (height, width) in [(1, 1), (7, 3), (32, 32)] {
                let description = Preprocessing {
                    height,
                    width,
                    fit,
                    filter,
                    ..imagenet_preprocessing()
                };
                for size in [(1, 1), (1, 999), (2, 3), (33, 32), (511, 1), (0, 5)] {
                    assert_eq!(description.fit(&image(size.0, size.1)).dimensions(), (width, height));
                }
            }
        }
    }
}

#[test]
fn very_long_images_take_no_more_memory_than_large_ones() {
    for (width, height) in [(1, 20_000_000), (20_000_000, 1)] {
        let long = RgbImage::from_pixel(width, height, Rgb([9; 3]));
        for fit in [Fit::Stretch, Fit::CenterCrop { fraction: 0.875 }] {
            let description = Preprocessing {
                fit,
                ..imagenet_preprocessing()
            };
            assert!(description.fit(&long).as_raw().iter().all(|&byte| byte == 9));
        }
    }
}

#[test]
fn a_constant_image_stays_constant() {
    for value in [0, 1, 127, 254, 255] {
        let flat = RgbImage::from_pixel(301, 200, Rgb([value; 3]));
        for description in [imagenet_preprocessing(), efficientnet_lite_preprocessing(224)] {
            assert!(description.fit(&flat).as_raw().iter().all(|&byte| byte == value));
        }
    }
}

#[test]
fn lossless_formats_decode_to_their_pixels_whatever_they_are_called() {
    let expected = image(31, 17);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let bytes = encoded(&DynamicImage::ImageRgb8(expected.clone()), format);
        assert_eq!(
            decode_image_bytes(&bytes, "memory").expect("it decodes"),
            expected,
            "{format:?}"
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("misnamed.jpg");
        std::fs::write(&path, &bytes).expect("it is written");
        assert_eq!(decode_image(&path).expect("it decodes"), expected, "{format:?}");
    }
}

#[test]
fn jpeg_decodes_near_its_pixels() {
    let expected = RgbImage::from_fn(64, 48, |x, y| Rgb([(x * 4) as u8, (y * 5) as u8, 128]));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95)
        .encode_image(&expected)
        .expect("it encodes");
    let decoded = decode_image_bytes(&bytes, "memory").expect("it decodes");
    let worst = decoded
        .as_raw()
        .iter()
        .zip(expected.as_raw())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(worst <= Some(12), "{worst:?}");
}

#[test]
fn exif_orientation_is_applied() {
    // A TIFF header with one entry: Orientation (0x0112), SHORT, 1 value, 6 = rotate by 90° clockwise.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let stored = RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([250; 3]) } else { Rgb([5; 3]) });
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif).expect("JPEG carries EXIF");
    encoder.encode_image(&stored).expect("it encodes");
    let shown = decode_image_bytes(&bytes, "memory").expect("it decodes");
    assert_eq!(shown.dimensions(), (16, 32));
    assert!(
        shown.get_pixel(8, 4)[0] > 240 && shown.get_pixel(8, 28)[0] < 15,
        "what was left is on top"
    );
}

#[test]
fn transparency_is_composed_onto_white() {
    let image = RgbaImage::from_fn(3, 1, |x, _| Rgba([100, 0, 200, [0, 128, 255][x as usize]]));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let decoded = decode_image_bytes(&encoded(&DynamicImage::ImageRgba8(image.clone()), format), "memory");
        let expected = RgbImage::from_raw(3, 1, vec![255, 255, 255, 177, 127, 227, 100, 0, 200]);
        assert_eq!(decoded.ok(), expected, "{format:?}");
    }
}

#[test]
fn grey_and_sixteen_bit_images_become_rgb() {
    let grey = DynamicImage::ImageLuma8(ImageBuffer::from_pixel(2, 2, Luma([77])));
    let deep = DynamicImage::ImageLuma16(ImageBuffer::from_pixel(2, 2, Luma([77 * 257])));
    let deep_rgb = DynamicImage::ImageRgb16(ImageBuffer::from_pixel(2, 2, Rgb([77 * 257; 3])));
    let opaque = DynamicImage::ImageLumaA16(ImageBuffer::from_pixel(2, 2, LumaA([77 * 257, 65535])));
    for image in [grey, deep, deep_rgb, opaque] {
        let decoded = decode_image_bytes(&encoded(&image, ImageFormat::Png), "memory").expect("it decodes");
        assert_eq!(decoded, RgbImage::from_pixel(2, 2, Rgb([77; 3])));
    }
}

#[test]
fn of_an_animated_gif_the_first_frame_counts() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for colour in [[255, 0, 0, 255], [0, 255, 0, 255]] {
        encoder
            .encode_frame(Frame::new(RgbaImage::from_pixel(4, 4, Rgba(colour))))
            .expect("it encodes");
    }
    drop(encoder);
    let decoded = decode_image_bytes(&bytes, "memory").expect("it decodes");
    assert_eq!(decoded, RgbImage::from_pixel(4, 4, Rgb([255, 0, 0])));
}

#[test]
fn an_image_over_the_pixel_limit_is_refused_before_it_is_decoded() {
    // The header of a BMP of 20,000 × 20,000 pixels without any pixel data.
    let mut bytes = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bytes.extend(20_000_u32.to_le_bytes());
    bytes.extend(20_000_u32.to_le_bytes());
    bytes.extend(b"\x01\0\x18\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let error = decode_image_bytes(&bytes, "big.bmp").expect_err("it is refused");
    assert!(
        matches!(
            error,
            ImageError::TooManyPixels {
                width: 20_000,
                height: 20_000,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().starts_with("big.bmp: 20000 × 20000 pixels"),
        "{error}"
    );
}

#[test]
fn damaged_files_are_errors_that_name_the_file() {
    let good = encoded(&DynamicImage::ImageRgb8(image(20, 20)), ImageFormat::Png);
    for (bytes, what) in [
        (&good[..good.len() / 2], "truncated"),
        (b"<html>not found</html>", "no image"),
        (b"", "empty"),
    ] {
        let error = decode_image_bytes(bytes, "some/file.png").expect_err(what).to_string();
        assert!(error.starts_with("some/file.png: "), "{error}");
    }
    let missing = decode_image(std::path::Path::new("no/such/file.png")).expect_err("it is missing");
    assert!(
        missing.to_string().starts_with("no/such/file.png: cannot be read"),
        "{missing}"
    );
}
