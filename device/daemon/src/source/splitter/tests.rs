//! Tests of the splitter on intact streams, and on streams with every kind of damage.

use image::{ExtendedColorType, ImageEncoder as _, ImageFormat, RgbImage, codecs::jpeg::JpegEncoder};
use proptest::prelude::*;

use super::*;

const LARGEST: usize = 8 << 20;

fn pixels(seed: u8) -> RgbImage {
    RgbImage::from_fn(31, 17, |x, y| {
        image::Rgb([(x * 7) as u8 ^ seed, (y * 13) as u8, seed.wrapping_mul(x as u8)])
    })
}

fn image(format: ImageFormat, seed: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    pixels(seed).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

const FORMATS: [ImageFormat; 4] = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP];

fn all() -> Vec<Vec<u8>> {
    let formats = FORMATS.into_iter().cycle().take(12).enumerate();
    formats.map(|(seed, format)| image(format, seed as u8)).collect()
}

/// Returns a JPEG with a segment after its start marker.
fn with_segment(jpeg: &[u8], marker: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, payload, &jpeg[2..]].concat()
}

/// Returns a WebP with a thumbnail after its pixels.
fn with_thumbnail(webp: &[u8], thumbnail: &[u8]) -> Vec<u8> {
    let chunk = |name: &[u8], payload: &[u8]| {
        let mut chunk = [name, &(payload.len() as u32).to_le_bytes(), payload].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    };
    let extended = chunk(b"VP8X", &[8, 0, 0, 0, 30, 0, 0, 16, 0, 0]);
    let body = [b"WEBP", &extended[..], &webp[12..], &chunk(b"EXIF", thumbnail)].concat();
    chunk(b"RIFF", &body)
}

/// Returns the images of a stream and the number of lost bytes. Asserts that the size of the pieces makes no
/// difference.
fn images(stream: &[u8]) -> (Vec<Vec<u8>>, u64) {
    let whole = split([stream]);
    for piece in [1, 7, 100, 4096] {
        let pieces = split(stream.chunks(piece));
        assert!(
            pieces.0 == whole.0,
            "pieces of {piece} bytes: {} and {} images",
            pieces.0.len(),
            whole.0.len()
        );
        assert_eq!(pieces.1, whole.1, "lost in pieces of {piece} bytes");
    }
    whole
}

/// Returns the images that are available before the end of the stream.
fn live(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(LARGEST);
    let mut images = Vec::new();
    for piece in stream.chunks(50) {
        splitter.push(piece);
        images.extend(std::iter::from_fn(|| splitter.next_image()));
    }
    images
}

#[test]
fn images_are_complete_however_the_stream_is_divided() {
    let sound = all();
    let (got, lost) = images(&sound.concat());
    assert!(got == sound);
    assert_eq!(lost, 0);
    assert!(live(&sound.concat()) == sound, "no image waits for the following bytes");
}

#[test]
fn heads_of_multipart_streams_are_skipped_and_not_counted_as_lost() {
    let sound = all();
    let mut stream = Vec::new();
    for image in &sound {
        stream.extend(
            format!(
                "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
                image.len()
            )
            .bytes(),
        );
        stream.extend(image);
        stream.extend(b"\r\n");
    }
    let (got, lost) = images(&stream);
    assert!(got == sound);
    assert_eq!(lost, 0);
}

#[test]
fn thumbnails_inside_metadata_are_not_frames() {
    let jpeg = |seed| image(ImageFormat::Jpeg, seed);
    // Cases: a thumbnail and a preview in one segment, as some cameras write them; a thumbnail without end marker; a
    // thumbnail in another format.
    let both = with_segment(&jpeg(2), 0xe1, &[jpeg(1), jpeg(3)].concat());
    let open = with_segment(&jpeg(2), 0xe1, &jpeg(1)[..jpeg(1).len() - 2]);
    let other = with_segment(&jpeg(2), 0xeb, &image(ImageFormat::Png, 1));
    let webp = with_thumbnail(&image(ImageFormat::WebP, 3), &jpeg(1)[..jpeg(1).len() - 2]);
    let sound = vec![both, jpeg(1), open, jpeg(4), webp.clone(), webp, other, jpeg(5)];
    let (got, lost) = images(&sound.concat());
    assert!(got == sound, "{} of {}", got.len(), sound.len());
    assert_eq!(lost, 0);
}

#[test]
fn jpegs_without_end_marker_end_where_the_next_begins() {
    let sound: Vec<_> = (0..9).map(|seed| image(ImageFormat::Jpeg, seed)).collect();
    let open: Vec<_> = sound.iter().map(|image| image[..image.len() - 2].to_vec()).collect();
    assert!(images(&open.concat()).0 == open);
    // The same images between parts of a multipart stream, and before another format.
    let parts: Vec<_> = open
        .iter()
        .flat_map(|image| [&image[..], b"\r\n--part\r\nContent-Type: image/jpeg\r\n\r\n"])
        .collect();
    assert!(images(&parts.concat()).0 == open);
    let mixed: Vec<_> = (0..6)
        .flat_map(|seed| [open[seed].clone(), image(FORMATS[1 + seed % 3], seed as u8)])
        .collect();
    assert!(images(&mixed.concat()).0 == mixed);
}

#[test]
fn restart_markers_and_stuffed_zeros_are_data() {
    let jpeg = image(ImageFormat::Jpeg, 1);
    let mut longer = jpeg[..jpeg.len() - 2].to_vec();
    longer.extend([0xff, 0xd0, 0x12, 0xff, 0x00, 0x42, 0xff, 0xd7, 0xff, 0xd9]);
    assert!(images(&[&longer[..], &jpeg].concat()).0 == [longer, jpeg]);
}

/// Returns false heads of large images.
fn false_heads() -> Vec<Vec<u8>> {
    let (bmp, png, webp, jpeg) = (
        image(ImageFormat::Bmp, 1),
        image(ImageFormat::Png, 1),
        image(ImageFormat::WebP, 1),
        image(ImageFormat::Jpeg, 1),
    );
    // The header of a valid BMP of 16 MB.
    let mut large = bmp[..54].to_vec();
    large[2..6].copy_from_slice(&(16_000_054_u32).to_le_bytes());
    large[18..26].copy_from_slice(&[0x10, 0x27, 0, 0, 0x15, 2, 0, 0]);
    let mut riff = webp[..30].to_vec();
    riff[4..8].copy_from_slice(&(16_000_000_u32).to_le_bytes());
    riff[16..20].copy_from_slice(&(15_999_988_u32).to_le_bytes());
    let chunk = [&png[..33], &(16_000_000_u32).to_be_bytes(), b"IDAT"].concat();
    let text = [&png[..33], &(16_000_000_u32).to_be_bytes(), b"tEXt"].concat();
    vec![
        b"BM\x00\x00\x00\x01\x00\x00\x00\x00".to_vec(),
        large,
        b"RIFF\xf0\xff\xff\x00WEBP".to_vec(),
        riff,
        png[..8].to_vec(),
        png[..33].to_vec(),
        chunk,
        text,
        vec![0xff, 0xd8, 0xff, 0xe1, 0xff, 0xff],
        jpeg[..40].to_vec(),
    ]
}

#[test]
fn a_false_head_affects_no_image_and_delays_at_most_three_frames() {
    let sound: Vec<_> = (0..40).map(|seed| image(ImageFormat::Jpeg, seed)).collect();
    for head in false_heads() {
        let stream = [sound[..5].concat(), head.clone(), sound[5..].concat()].concat();
        let (got, lost) = images(&stream);
        assert!(got == sound, "after {head:x?}: {} of {}", got.len(), sound.len());
        assert!(lost <= head.len() as u64);
        // A false head with 64 kB of metadata may delay that many images. Heads that claim more are dropped early.
        let claims = if head.starts_with(&[0xff, 0xd8]) {
            3 + 65_535 / sound[0].len()
        } else {
            3
        };
        let came = live(&stream).len();
        assert!(
            came + claims >= sound.len(),
            "after {head:x?}: {came} of {} while it runs",
            sound.len()
        );
    }
}

#[test]
fn many_consecutive_false_heads_affect_no_image() {
    let sound = all();
    let mut stream = Vec::new();
    for image in &sound {
        stream.extend(false_heads().concat());
        stream.extend(image);
    }
    let (got, _) = images(&stream);
    assert!(sound.iter().all(|image| got.contains(image)), "{} images", got.len());
}

/// Time must be linear in the length of a false image.
#[test]
fn work_is_linear_in_the_stream() {
    let jpeg = image(ImageFormat::Jpeg, 1);
    let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    // Thousands of heads that share the following bytes, delivered in small pieces.
    let heads: Vec<u8> = with_segment(&jpeg[..scan + 14], 0xe0, &[0; 8]).repeat(3_000);
    let pieces = [
        heads,
        [0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff].repeat(300_000),
        false_heads()[1].repeat(20_000),
        image(ImageFormat::Png, 1)[..33].repeat(30_000),
        vec![0x42; 4 << 20],
    ];
    let stream = [pieces.concat(), image(ImageFormat::Png, 7)].concat();
    let (got, _) = split(stream.chunks(1000));
    assert!(got.last() == Some(&image(ImageFormat::Png, 7)));
}

#[test]
fn the_buffer_stays_bounded_by_the_largest_image() {
    let mut splitter = Splitter::new(LARGEST);
    let jpeg = image(ImageFormat::Jpeg, 1);
    splitter.push(&jpeg[..jpeg.len() - 2]);
    let piece = vec![0x42; 1 << 20];
    for _ in 0..100 {
        assert_eq!(splitter.next_image(), None);
        splitter.push(&piece);
        assert!(splitter.buffer.len() <= 2 * LARGEST + (4 << 20));
    }
    assert!(splitter.lost() > LARGEST as u64);
    splitter.push(&image(ImageFormat::Png, 2));
    assert!(splitter.next_image() == Some(image(ImageFormat::Png, 2)));
}

#[test]
fn bytes_outside_images_are_counted_as_they_arrive() {
    let mut splitter = Splitter::new(LARGEST);
    splitter.push(&[7; 1000]);
    assert_eq!(splitter.next_image(), None);
    assert!(splitter.lost() > 900);
    // Unbounded text is not a separator.
    let mut splitter = Splitter::new(LARGEST);
    for _ in 0..100 {
        splitter.push(&[b'a'; 100]);
        assert_eq!(splitter.next_image(), None);
    }
    assert!(splitter.lost() > 5000);
}

/// A segment that ends with a start marker contains the start of a second image, which is complete as well: its pixels
/// are those of the first. A frame that was truncated just before the end of a segment looks the same.
#[test]
fn of_two_images_that_share_their_end_the_one_with_the_later_start_is_delivered() {
    let (jpeg, next) = (image(ImageFormat::Jpeg, 1), image(ImageFormat::Jpeg, 2));
    for (payload, fill) in [
        (&[0xff, 0xd8][..], 0),
        (&[1, 2, 3, 0xff, 0xd8], 0),
        (&[0xff, 0xd8, 0xff], 1),
    ] {
        let outer = with_segment(&jpeg, 0xe2, payload);
        let inner = outer[6 + payload.len() - 2 - fill..].to_vec();
        assert_eq!(
            image::load_from_memory(&inner).unwrap().to_rgb8(),
            image::load_from_memory(&outer).unwrap().to_rgb8()
        );
        let lost = (outer.len() - inner.len()) as u64;
        assert!(
            images(&[&outer[..], &next].concat()) == (vec![inner, next.clone()], lost),
            "{payload:x?}"
        );
    }
}

/// One piece of a stream, and whether it is an intact image.
#[derive(Clone)]
struct Piece {
    bytes: Vec<u8>,
    intact: bool,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, length) = (&self.bytes[..self.bytes.len().min(8)], self.bytes.len());
        write!(f, "{first:02x?}… {length} bytes, intact: {}", self.intact)
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    let any_image = || (0..4_usize, any::<u8>()).prop_map(|(format, seed)| image(FORMATS[format], seed));
    // Whether a segment is intact is undecidable if it ends with a start marker and bytes that may precede the next one.
    let segments = (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(seed, mut payload)| {
        let fill = payload.iter().rev().take_while(|&&byte| byte == 0xff).count();
        let end = payload.len() - fill;
        if payload[..end].ends_with(&[0xff, 0xd8]) {
            payload[end - 1] = 0;
        }
        (seed, payload)
    });
    prop_oneof![
        6 => any_image().prop_map(|image| (image, true)),
        2 => segments.prop_map(|(seed, payload)| (with_segment(&image(ImageFormat::Jpeg, seed), 0xe2, &payload), true)),
        1 => any::<u8>().prop_map(|seed| {
            let inner = image(ImageFormat::Jpeg, seed ^ 1);
            (with_segment(&image(ImageFormat::Jpeg, seed), 0xe1, &inner), true)
        }),
        3 => (any_image(), 0.0..1.0_f64).prop_map(|(image, part)| {
            let length = (image.len() as f64 * part) as usize;
            (image[..length].to_vec(), false)
        }),
        2 => (any_image(), 1..60_usize).prop_map(|(image, less)| (image[..image.len() - less].to_vec(), false)),
        2 => (any_image(), 0.0..1.0_f64, 0.0..1.0_f64).prop_map(|(image, from, part)| {
            let rest = &image[(image.len() as f64 * from) as usize..];
            (rest[..(rest.len() as f64 * part) as usize].to_vec(), false)
        }),
        2 => proptest::collection::vec(any::<u8>(), 0..400).prop_map(|garbage| (garbage, false)),
        2 => (0..10_usize).prop_map(|which| (false_heads()[which].clone(), false)),
        1 => Just((b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n".to_vec(), false)),
    ]
    .prop_map(|(bytes, intact)| Piece { bytes, intact })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Intact images are returned in order, whatever damage surrounds them.
    #[test]
    fn every_intact_image_is_returned(pieces in proptest::collection::vec(piece(), 0..12), size in 1..5000_usize) {
        let stream: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect();
        let (got, lost) = split(stream.chunks(size));
        let mut came = got.iter();
        for piece in pieces.iter().filter(|piece| piece.intact) {
            prop_assert!(came.any(|one| *one == piece.bytes), "{piece:?} is missing from {} images", got.len());
        }
        prop_assert!(lost <= stream.len() as u64);
    }

    /// A flipped bit only affects the image that contains it.
    #[test]
    fn a_flipped_bit_costs_one_image(at in 0.0..1.0_f64, bit in 0..8_u32, size in 1..5000_usize) {
        let sound = all();
        let mut stream = sound.concat();
        let at = (at * (stream.len() - 1) as f64) as usize;
        stream[at] ^= 1 << bit;
        let (got, _) = split(stream.chunks(size));
        let missing = sound.iter().filter(|image| !got.contains(image)).count();
        prop_assert!(missing <= 1, "{missing} are missing");
    }

    /// Splitting arbitrary bytes does not panic, and returns no more bytes than given.
    #[test]
    fn arbitrary_bytes_are_split(stream in proptest::collection::vec(any::<u8>(), 0..3000), size in 1..500_usize) {
        let (got, lost) = split(stream.chunks(size));
        prop_assert!(got.iter().map(Vec::len).sum::<usize>() + lost as usize <= stream.len());
    }
}

#[test]
fn images_of_other_encoders_are_read() {
    // Also a grey image, which has a single component in the scan.
    let mut grey = Vec::new();
    JpegEncoder::new(&mut grey)
        .write_image(&[90; 64], 8, 8, ExtendedColorType::L8)
        .unwrap();
    assert!(images(&[grey.clone(), grey.clone()].concat()).0 == [grey.clone(), grey]);
}
/// A checksum must not be taken for a valid one if its chunk includes the first bytes of the next image.
#[test]
fn a_truncated_frame_affects_no_other_frame() {
    for (before, after) in (0..4).flat_map(|before| (0..4).map(move |after| (before, after))) {
        let (cut, next) = (image(FORMATS[before], 1), image(FORMATS[after], 2));
        for (less, piece) in (1..40).flat_map(|less| [(less, 1), (less, 13), (less, 1 << 20)]) {
            let stream = [&cut[..cut.len() - less], &next, &next].concat();
            let (got, _) = split(stream.chunks(piece));
            let came = got.iter().filter(|image| **image == next).count();
            assert!(came == 2, "format {before} less {less}, then {after}: {came}");
        }
    }
}

#[test]
fn an_image_beyond_the_limit_is_lost_and_the_next_is_delivered() {
    for large in FORMATS {
        let (large, small) = (image(large, 1), image(ImageFormat::Jpeg, 2));
        let mut splitter = Splitter::new(large.len() - 1);
        splitter.push(&large);
        splitter.push(&small);
        splitter.end();
        let images: Vec<Vec<u8>> = std::iter::from_fn(|| splitter.next_image()).collect();
        let expected = if small.len() < large.len() { vec![small] } else { vec![] };
        assert!(images == expected, "{}", large.len());
    }
}
