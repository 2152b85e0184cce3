//! Fuzz target of image files under small limits: `clr_onnx::ImageDecoder`.
//!
//! The bytes are decoded unchanged. Decoding must not use more memory than the limits allow, and decoding twice must
//! give the same pixels.
#![no_main]

#[path = "../../adapters/format/tests/allocation.rs"]
mod allocation;

use std::{sync::LazyLock, time::Duration};

use clr_adapters::{ChannelOrder, Filter, Fit, Preprocessing};
use clr_onnx::{DecodeLimits, FileKind, ImageDecoder, ImageError, has_further_images};
use image::RgbImage;
use libfuzzer_sys::fuzz_target;

/// Allowance beyond the budget: a test allocation of 8 MiB more than needed, which is never touched, and the text of an
/// error.
const SLACK: usize = 9 << 20;

static DECODER: LazyLock<ImageDecoder> = LazyLock::new(|| {
    let mut limits = DecodeLimits::device(32, 32);
    limits.bytes = 64 << 10;
    limits.pixels = 1 << 22;
    limits.memory = 32 << 20;
    // libFuzzer reports inputs that take too long. A busy machine must not count as an image's fault.
    limits.time = Duration::from_mins(5);
    ImageDecoder::new(limits)
});

const INPUT: Preprocessing = Preprocessing {
    height: 32,
    width: 32,
    fit: Fit::Stretch,
    filter: Filter::Bilinear,
    channel_order: ChannelOrder::Rgb,
    mean: [0.0; 3],
    std: [1.0; 3],
};

fn decode(data: &[u8], inputs: &[&Preprocessing]) -> Result<RgbImage, ImageError> {
    let mut decoded = None;
    let peak = allocation::peak(|| decoded = Some(DECODER.decode(data, "fuzzed", inputs)));
    let most = DECODER.limits().memory as usize + SLACK;
    assert!(peak <= most, "{peak} bytes of memory for {} bytes of image", data.len());
    decoded.unwrap().map(|image| image.pixels().clone())
}

/// Replaces the panic hook. `ImageDecoder` catches a panic of a library's decoder and returns it as the image's error,
/// so it is only printed. Any other panic ends the run.
fn forgive_decoders() {
    let end = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|at| at.file().contains("/registry/src/")) {
            eprintln!("a decoder panicked: {panic}");
        } else {
            end(panic);
        }
    }));
}

fuzz_target!(init: forgive_decoders(), |data: &[u8]| {
    let kind = FileKind::of("fuzzed".as_ref(), data);
    let _ = has_further_images(data);
    match decode(data, &[]) {
        Ok(image) => {
            assert!(!matches!(kind, FileKind::Other | FileKind::Empty), "decoded, and yet {kind:?}");
            assert!(image.width() > 0 && image.height() > 0);
            assert!(u64::from(image.width()) * u64::from(image.height()) <= DECODER.limits().pixels);
            assert!(
                decode(data, &[]).is_ok_and(|again| again == image),
                "decoded twice, it differs"
            );
            // If the image can be decoded, it can also be decoded in reduced size and scaled to a network's input.
            let reduced = decode(data, &[&INPUT]).expect("an image that can be decoded");
            assert!(reduced.width() <= image.width() && reduced.height() <= image.height());
        }
        Err(error) => assert!(error.to_string().contains("fuzzed"), "the image is not named: {error}"),
    }
});
