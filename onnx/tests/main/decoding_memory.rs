//! A decoder announces the memory that it is about to use, and uses no more.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::Cursor,
};

use clr_adapters::{Fit, Preprocessing};
use clr_onnx::{DecodeLimits, ImageDecoder, RgbImage, imagenet_preprocessing};
use image::{DynamicImage, ImageFormat, codecs::jpeg::JpegEncoder};

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed to the system's allocator unchanged; the counters are thread-local cells that do not
// allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.get() + layout.size();
        LIVE.set(live);
        PEAK.set(PEAK.get().max(live));
        // SAFETY: the caller's obligations are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().saturating_sub(layout.size()));
        // SAFETY: the caller's obligations are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x / 3 + y) as u8, (y / 2) as u8 ^ (x / 16) as u8, (x * y / 64) as u8])
    })
}

fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let rgb = DynamicImage::ImageRgb8(scene(1203, 907));
    let images = [
        ("RGB", rgb.clone()),
        ("RGBA", rgb.to_rgba8().into()),
        ("RGB, 16 bits", rgb.to_rgb16().into()),
        ("RGBA, 16 bits", rgb.to_rgba16().into()),
        ("grey", rgb.to_luma8().into()),
    ];
    let formats = [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Pnm,
        #[cfg(feature = "tiff")]
        ImageFormat::Tiff,
    ];
    for format in formats {
        for (kind, image) in &images {
            let mut bytes = Cursor::new(Vec::new());
            if image.write_to(&mut bytes, format).is_ok() {
                files.push((format!("{format:?}, {kind}"), bytes.into_inner()));
            }
        }
    }
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    for (kind, image) in [&images[0], &images[4]] {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 85);
        image::ImageEncoder::set_exif_metadata(&mut encoder, exif.clone()).unwrap();
        encoder.encode_image(image).unwrap();
        files.push((format!("turned JPEG, {kind}"), bytes));
    }
    for (name, bytes) in [
        (
            "progressive 4:2:0",
            &include_bytes!("../../src/preprocess/decode/fixtures/progressive_420.jpg")[..],
        ),
        (
            "progressive 4:4:4",
            include_bytes!("../../src/preprocess/decode/fixtures/progressive_444.jpg"),
        ),
        ("CMYK", include_bytes!("../../src/preprocess/decode/fixtures/cmyk.jpg")),
        (
            "lossy WebP",
            include_bytes!("../../src/preprocess/decode/fixtures/lossy.webp"),
        ),
        (
            "lossless WebP",
            include_bytes!("../../src/preprocess/decode/fixtures/lossless.webp"),
        ),
        (
            "lossless WebP of few colours",
            include_bytes!("../../src/preprocess/decode/fixtures/lossless_palette.webp"),
        ),
        (
            "lossy WebP with alpha",
            include_bytes!("../../src/preprocess/decode/fixtures/lossy_alpha.webp"),
        ),
        (
            "interlaced PNG",
            include_bytes!("../../src/preprocess/decode/fixtures/interlaced.png"),
        ),
    ] {
        files.push((name.to_owned(), bytes.to_vec()));
    }
    files.push(("WebP of many prefix codes".to_owned(), many_codes(2000)));
    files
}

/// Writer of the bits of a lossless WebP, least significant bit first.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        self.0.extend((0..count).map(|bit| value >> bit & 1 == 1));
    }

    /// Writes a code with a single symbol.
    fn only(&mut self, symbol: u32) {
        self.put(0b101, 3);
        self.put(symbol, 8);
    }

    /// Writes a code with 11 symbols, the longest of ten bits. It is the smallest code that needs a full decoding
    /// table.
    fn full(&mut self) {
        self.put(0, 1);
        // Lengths of the code-length codes in the format's order: three bits for the lengths 1 to 6, four for 7 to 10.
        self.put(14 - 4, 4);
        for length in [0, 0, 0, 3, 3, 3, 3, 3, 0, 3, 4, 4, 4, 4] {
            self.put(length, 3);
        }
        // Eleven lengths are stated.
        self.put(1 | 1 << 1 | 9 << 4, 8);
        for length in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10_u32] {
            let (code, bits) = if length < 7 {
                (length - 1, 3)
            } else {
                (12 + length - 7, 4)
            };
            (0..bits).rev().for_each(|bit| self.put(code >> bit & 1, 1));
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
        self.0.chunks(8).map(byte).collect()
    }
}

/// Returns a black lossless WebP of 4 × 4 pixels that declares this many groups of prefix codes.
fn many_codes(groups: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0x2f | 3 << 8 | 3 << 22, 32);
    bits.put(0, 8);
    // No transform and no colour cache. Groups apply to blocks of 4 × 4 pixels, so the entropy image has one pixel,
    // which refers to the last group.
    bits.put(1 << 2, 3 + 3);
    bits.put(0, 1);
    let last = groups - 1;
    for symbol in [last & 0xff, last >> 8, 0, 0, 0] {
        bits.only(symbol);
    }
    (0..5 * groups).for_each(|_| bits.full());
    // For each pixel, the first symbol of four codes.
    bits.put(0, 32);
    bits.put(0, 32);
    let data = bits.bytes();
    let length = data.len() as u32;
    let padding = vec![0; data.len() % 2];
    [
        b"RIFF",
        &(12 + length + length % 2).to_le_bytes()[..],
        b"WEBPVP8L",
        &length.to_le_bytes(),
        &data,
        &padding,
    ]
    .concat()
}

/// Regression test: a file of four megabytes, whose prefix codes took 1.4 GB.
#[test]
fn a_webp_of_many_prefix_codes_is_refused_before_they_are_made() {
    let bytes = many_codes(1 << 16);
    assert!(bytes.len() < 4 << 20);
    let decoder = ImageDecoder::new(DecodeLimits::device(224, 224));
    let start = LIVE.get();
    PEAK.set(start);
    let error = decoder.decode(&bytes, "file", &[]).unwrap_err();
    assert!(error.is_over_limit(), "{error}");
    // The check of the system's memory allocates a few megabytes that are not used.
    assert!(PEAK.get() - start < 16 << 20, "{}", PEAK.get() - start);
    let image = decoder.decode(&many_codes(200), "file", &[]).unwrap();
    assert_eq!(image.pixels(), &RgbImage::new(4, 4));
}

#[test]
fn decoding_uses_no_more_memory_than_it_announces() {
    let decoder = ImageDecoder::new(DecodeLimits::HOST);
    let input = |side: u32| Preprocessing {
        height: side,
        width: side,
        fit: Fit::Stretch,
        ..imagenet_preprocessing()
    };
    for (name, bytes) in files() {
        for inputs in [vec![], vec![input(16)], vec![input(100)], vec![input(36)]] {
            let inputs: Vec<&Preprocessing> = inputs.iter().collect();
            // The check of the system's memory allocates slightly more than announced, so the peak is measured after
            // it.
            let start = LIVE.get();
            let announced = Cell::new(0);
            let before = |needed: u64| {
                announced.set(needed);
                PEAK.set(LIVE.get());
            };
            let image = decoder.decode_observed(&bytes, &name, &inputs, &before).unwrap();
            let announced = announced.get();
            let used = (PEAK.get() - start + bytes.len()) as u64;
            // Allowance for messages, tables, and small buffers that a decoder needs for every image.
            assert!(
                used <= announced + (300 << 10),
                "{name}, {:?}: {used} bytes used, {announced} announced",
                image.pixels().dimensions()
            );
        }
    }
}
