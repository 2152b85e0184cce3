//! A decoder announces what it is about to use before it does, and uses no more.

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

// SAFETY: every call is handed to the system's allocator unchanged; the counters are thread-local cells that do not allocate.
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
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Gif] {
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
            "interlaced PNG",
            include_bytes!("../../src/preprocess/decode/fixtures/interlaced.png"),
        ),
    ] {
        files.push((name.to_owned(), bytes.to_vec()));
    }
    files
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
            // The system is asked for what was announced and a little more: the peak is counted from there on.
            let start = LIVE.get();
            let announced = Cell::new(0);
            let before = |needed: u64| {
                announced.set(needed);
                PEAK.set(LIVE.get());
            };
            let image = decoder.decode_observed(&bytes, &name, &inputs, &before).unwrap();
            let announced = announced.get();
            let used = (PEAK.get() - start + bytes.len()) as u64;
            // Small change: messages, tables, what a decoder holds for every image.
            assert!(
                used <= announced + (300 << 10),
                "{name}, {:?}: {used} bytes used, {announced} announced",
                image.dimensions()
            );
        }
    }
}
