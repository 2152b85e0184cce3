//! Decompression bombs are refused because of the memory budget, or are decoded within it.

use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};

use super::{super::png::lines, *};

const MEMORY: u64 = 24 << 20;

fn small() -> DecodeLimits {
    DecodeLimits {
        memory: MEMORY,
        ..DecodeLimits::HOST
    }
}

fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(&kind);
    crc.update(data);
    [
        &(data.len() as u32).to_be_bytes()[..],
        &kind,
        data,
        &crc.sum().to_be_bytes(),
    ]
    .concat()
}

fn zeros(count: u64) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let block = vec![0; 1 << 16];
    let mut left = count;
    while left > 0 {
        let length = left.min(block.len() as u64);
        encoder.write_all(&block[..length as usize]).unwrap();
        left -= length;
    }
    encoder.finish().unwrap()
}

/// Returns a black PNG. If `interlaced`, it has rows of every pass, of about the same size in total.
fn png(width: u32, height: u32, depth: u8, colour: u8, interlaced: bool, extra: &[u8]) -> Vec<u8> {
    let channels = match colour {
        2 => 3,
        6 => 4,
        _ => 1,
    };
    let row = |width: u32| 1 + u64::from(width) * channels * u64::from(depth) / 8;
    let bytes = if interlaced {
        lines([width, height], true).map(|line| row(line.pixels)).sum()
    } else {
        u64::from(height) * row(width)
    };
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[depth, colour, 0, 0, u8::from(interlaced)],
    ]
    .concat();
    [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(*b"IHDR", &header),
        extra,
        &chunk(*b"IDAT", &zeros(bytes)),
        &chunk(*b"IEND", &[]),
    ]
    .concat()
}

#[track_caller]
fn expect_refusal(bytes: &[u8], inputs: &[&Preprocessing]) {
    let error = decode_within(small(), bytes, inputs).unwrap_err();
    assert!(error.is_over_limit(), "{error}");
}

#[test]
fn large_pngs_are_refused_at_full_size_and_reduced_within_the_budget() {
    let rotated = chunk(
        *b"eXIf",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    );
    for (depth, colour) in [(8, 2), (16, 6), (8, 0)] {
        let bomb = png(4000, 3000, depth, colour, false, &rotated);
        expect_refusal(&bomb, &[]);
        let reduced = decode_within(small(), &bomb, &[&input(56)]).unwrap();
        assert_eq!(reduced.dimensions(), (375, 500));
    }
    let interlaced = png(4000, 3000, 8, 2, true, &[]);
    expect_refusal(&interlaced, &[]);
    assert_eq!(
        decode_within(small(), &interlaced, &[&input(56)]).unwrap().dimensions(),
        (500, 375)
    );
}

#[test]
fn profiles_and_texts_of_a_png_are_not_inflated() {
    let large = zeros(1 << 28);
    for extra in [
        chunk(*b"iCCP", &[b"k\0\0", &large[..]].concat()),
        chunk(*b"zTXt", &[b"k\0\0", &large[..]].concat()),
        chunk(*b"iTXt", &[b"k\0\x01\0\0\0", &large[..]].concat()),
    ] {
        let image = decode_within(small(), &png(16, 16, 8, 2, false, &extra), &[]).unwrap();
        assert_eq!(image.dimensions(), (16, 16));
    }
}

#[test]
fn a_webp_of_34_bytes_is_refused_by_the_size_in_its_bitstream() {
    // VP8L, 10,000 × 10,000 pixels: only the header.
    let bits = (0x270f_u32 | 0x270f << 14).to_le_bytes();
    let data = [&[0x2f][..], &bits, &[0; 9]].concat();
    let file = |chunks: &[u8]| [b"RIFF", &(4 + chunks.len() as u32).to_le_bytes()[..], b"WEBP", chunks].concat();
    let bitstream = [b"VP8L", &(data.len() as u32).to_le_bytes()[..], &data].concat();
    expect_refusal(&file(&bitstream), &[]);
    expect_refusal(&file(&bitstream), &[&input(8)]);
    // The same in a canvas of one pixel.
    let canvas = [&b"VP8X\x0a\0\0\0"[..], &[0; 10]].concat();
    let hidden = file(&[&canvas[..], &bitstream].concat());
    expect_refusal(&hidden, &[]);
    // A lossy one, and metadata that claim a length of gigabytes.
    let lossy = [
        &b"VP8 \x0a\0\0\0\x10\x00\x00\x9d\x01\x2a"[..],
        &16_000_u16.to_le_bytes(),
        &16_000_u16.to_le_bytes(),
    ]
    .concat();
    assert!(decode_within(small(), &file(&lossy), &[]).is_err());
    let good = encoded(&DynamicImage::ImageRgb8(scene(20, 20)), ImageFormat::WebP);
    let flagged = [
        &b"VP8X\x0a\0\0\0\x08\0\0\0\x13\0\0\x13\0\0"[..],
        &good[12..],
        b"EXIF\xf0\xff\xff\xff",
    ]
    .concat();
    let image = decode_within(small(), &file(&flagged), &[]).unwrap();
    assert_eq!(image, scene(20, 20));
}

#[test]
fn a_gif_whose_frame_is_larger_than_its_canvas_is_refused() {
    let gif = [
        &b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0"[..],
        &60_000_u16.to_le_bytes(),
        &60_000_u16.to_le_bytes(),
        b"\0\x02\x02\x44\x01\0\x3b",
    ]
    .concat();
    assert!(decode_within(small(), &gif, &[]).is_err());
    let canvas = [
        &b"GIF89a"[..],
        &9_000_u16.to_le_bytes(),
        &9_000_u16.to_le_bytes(),
        &b"\x80\0\0\0\0\0\xff\xff\xff"[..],
        b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b",
    ]
    .concat();
    expect_refusal(&canvas, &[&input(8)]);
}

#[test]
fn a_bmp_is_refused_by_its_header() {
    let mut bytes = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bytes.extend(9_000_u32.to_le_bytes());
    bytes.extend(9_000_u32.to_le_bytes());
    bytes.extend(b"\x01\0\x18\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    expect_refusal(&bytes, &[&input(8)]);
}

#[test]
fn a_large_jpeg_is_reduced_within_the_budget_and_refused_at_full_size() {
    let bytes = jpeg(&RgbImage::from_pixel(5000, 4000, image::Rgb([9, 200, 30])));
    expect_refusal(&bytes, &[]);
    let image = decode_within(small(), &bytes, &[&input(100)]).unwrap();
    assert_eq!(image.dimensions(), (625, 500));
    assert!(
        image
            .pixels()
            .all(|pixel| pixel.0.iter().zip([9, 200, 30]).all(|(a, b)| a.abs_diff(b) < 4))
    );
}

#[test]
fn limits_on_bytes_pixels_and_time_are_enforced_and_reported() {
    let bytes = jpeg(&scene(640, 480));
    let limits = [
        DecodeLimits {
            bytes: 1000,
            ..DecodeLimits::HOST
        },
        DecodeLimits {
            pixels: 640 * 480 - 1,
            ..DecodeLimits::HOST
        },
        DecodeLimits {
            time: std::time::Duration::ZERO,
            ..DecodeLimits::HOST
        },
    ];
    let said = limits.map(|limits| decode_within(limits, &bytes, &[]).unwrap_err().to_string());
    assert!(said[0].contains("limit for an image file is 1000 bytes"), "{}", said[0]);
    assert!(said[1].contains("640 × 480 pixels, the limit is 307199"), "{}", said[1]);
    assert!(said[2].contains("not decoded within 0 ms"), "{}", said[2]);
}

#[test]
fn files_that_are_none_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let error = decode_image(folder.path()).unwrap_err();
    assert!(matches!(error, ImageError::Io { .. }), "{error}");
}
