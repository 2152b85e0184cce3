//! The stream of images on standard input: `clr_device::daemon::fuzz::split_stream`.
//!
//! A stream is made of garbage and of sound, cut and damaged images. How it is cut into pieces makes no difference, every byte is
//! delivered at most once, and sound images at its end are found.
#![no_main]

use clr_device::daemon::fuzz::split_stream;
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary, Unstructured},
    fuzz_target,
};

const JPEG: &[u8] = include_bytes!("../seeds/grey.jpg");
const PNG: &[u8] = include_bytes!("../seeds/grey.png");
const BMP: &[u8] = include_bytes!("../seeds/grey.bmp");
const WEBP: &[u8] = include_bytes!("../seeds/grey.webp");

#[derive(Arbitrary, Debug)]
enum Format {
    Jpeg,
    Png,
    Bmp,
    Webp,
}

impl Format {
    const fn image(&self) -> &'static [u8] {
        match self {
            Self::Jpeg => JPEG,
            Self::Png => PNG,
            Self::Bmp => BMP,
            Self::Webp => WEBP,
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Raw(&'a [u8]),
    Sound(Format),
    /// An image that ends early.
    Cut(Format, u16),
    /// An image with other bytes at one place.
    Damaged(Format, u16, &'a [u8]),
    /// A head alone, with a length of its own.
    Riff(u32),
    Bitmap(u32),
    Zeros(u16),
}

#[derive(Arbitrary, Debug)]
struct Stream<'a> {
    piece: u16,
    parts: Vec<Part<'a>>,
}

impl Part<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend(*bytes),
            Self::Sound(format) => out.extend(format.image()),
            Self::Cut(format, at) => out.extend(&format.image()[..usize::from(*at) % format.image().len()]),
            Self::Damaged(format, at, bytes) => {
                let mut image = format.image().to_vec();
                let at = usize::from(*at) % image.len();
                for (to, from) in image[at..].iter_mut().zip(*bytes) {
                    *to = *from;
                }
                out.extend(image);
            }
            Self::Riff(length) => {
                out.extend(b"RIFF");
                out.extend(length.to_le_bytes());
                out.extend(b"WEBPVP8 ");
            }
            Self::Bitmap(length) => {
                out.extend(b"BM");
                out.extend(length.to_le_bytes());
                out.extend([0, 0, 0, 0]);
            }
            Self::Zeros(count) => out.resize(out.len() + usize::from(*count), 0),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(stream) = Stream::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut bytes = Vec::new();
    for part in stream.parts.iter().take(32) {
        part.write(&mut bytes);
    }
    let (images, lost) = split_stream(&bytes, usize::MAX);
    let delivered: usize = images.iter().map(Vec::len).sum();
    assert!(
        delivered as u64 + lost <= bytes.len() as u64,
        "more than came: {delivered} and {lost}"
    );
    let pieces = split_stream(&bytes, usize::from(stream.piece));
    assert_eq!(pieces, (images, lost), "in pieces of {} bytes", stream.piece);

    // Damage costs the images that it touches: two sound ones after it are there.
    bytes.extend(PNG);
    bytes.extend(JPEG);
    let (images, _) = split_stream(&bytes, usize::MAX);
    assert_eq!(
        images.last().map(Vec::as_slice),
        Some(JPEG),
        "the last image is missing"
    );
});
