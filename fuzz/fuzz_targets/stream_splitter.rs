//! Fuzz target of the image stream on standard input: `clr_daemon::fuzz::split_stream`.
//!
//! The stream consists of garbage and of valid, truncated and damaged images. If all bytes arrive at once, each is
//! delivered at most once. If they arrive in pieces, the same images must be found. In that case there may be
//! additional truncated images, delivered before the bytes arrived that would have contradicted them; a splitter that
//! waited for such bytes would delay valid images. Valid images at the end of the stream must be found.
#![no_main]

use clr_daemon::fuzz::split_stream;
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
    /// A truncated image.
    Cut(Format, u16),
    /// An image with bytes replaced at one position.
    Damaged(Format, u16, &'a [u8]),
    /// Only a RIFF header, with an arbitrary length.
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
    let (mut pieces, _) = split_stream(&bytes, usize::from(stream.piece));
    let mut whole = images.into_iter().peekable();
    pieces.retain(|image| whole.next_if_eq(image).is_none());
    assert_eq!(whole.next(), None, "missing in pieces of {} bytes", stream.piece);
    let sound = |image: &&Vec<u8>| [JPEG, PNG, BMP, WEBP].contains(&image.as_slice());
    assert_eq!(
        pieces.iter().find(sound),
        None,
        "only in pieces of {} bytes",
        stream.piece
    );

    // Damage only affects the images that it touches, so two valid images after it are found.
    bytes.extend(PNG);
    bytes.extend(JPEG);
    let (images, _) = split_stream(&bytes, usize::MAX);
    assert_eq!(
        images.last().map(Vec::as_slice),
        Some(JPEG),
        "the last image is missing"
    );
});
