//! Hostile images, shown or taught: memory stays within the limit, the process keeps running, and damaged images give
//! no result.

use std::{
    fs,
    io::{Cursor, Write as _},
    thread,
    time::{Duration, Instant},
};

use clr_onnx::RgbImage;
use clr_transfer::{ClientError, Endpoint, FailureCode, SystemClock};
use image::codecs::jpeg::JpegEncoder;
use rustix::process::{Resource, Rlimit, prlimit};

use super::{
    device::{Device, Heard, TIMEOUT, adapter, free_port, image, signed},
    http_client::http_get,
};

/// Memory limit of an image in these tests, with an allowance for the rest of the program, in bytes.
const BUDGET: u64 = 24 << 20;
const REST: u64 = 64 << 20;
const LIMITS: &str = "[limits]\nimage_memory = 25165824\nimage_ms = 600000\n";

fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checked = kind.to_vec();
    checked.extend_from_slice(data);
    [
        &(data.len() as u32).to_be_bytes()[..],
        &checked,
        &crc32fast::hash(&checked).to_be_bytes(),
    ]
    .concat()
}

/// `count` zeros, compressed.
fn zeros(count: usize) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let block = vec![0; 1 << 20];
    let mut left = count;
    while left > 0 {
        let length = left.min(block.len());
        encoder.write_all(&block[..length]).unwrap();
        left -= length;
    }
    encoder.finish().unwrap()
}

/// A black PNG of 16-bit RGBA, with an orientation.
fn png(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[16, 6, 0, 0, 0]].concat();
    let turned = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let data = zeros((1 + 8 * width as usize) * height as usize);
    [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(*b"IHDR", &header),
        &chunk(*b"eXIf", turned),
        &chunk(*b"IDAT", &data),
        &chunk(*b"IEND", &[]),
    ]
    .concat()
}

/// A small PNG with a colour profile of half a gigabyte.
fn profile() -> Vec<u8> {
    let small = image(3);
    let after_header = 8 + 25;
    let profile = chunk(*b"iCCP", &[b"k\0\0", &zeros(1 << 29)[..]].concat());
    [&small[..after_header], &profile, &small[after_header..]].concat()
}

/// The head of a lossless WebP of 10,000 × 10,000 pixels.
fn webp() -> Vec<u8> {
    let bits = (0x270f_u32 | 0x270f << 14).to_le_bytes();
    let data = [&[0x2f][..], &bits, &[0; 9]].concat();
    [
        b"RIFF",
        &(12 + data.len() as u32).to_le_bytes()[..],
        b"WEBPVP8L",
        &(data.len() as u32).to_le_bytes(),
        &data,
    ]
    .concat()
}

fn bmp() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::new(3000, 2000)
        .write_to(&mut bytes, image::ImageFormat::Bmp)
        .unwrap();
    bytes.into_inner()
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x / 9) as u8, (y / 5) as u8, 90]));
    JpegEncoder::new_with_quality(&mut bytes, 40)
        .encode_image(&image)
        .unwrap();
    bytes
}

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("turned PNG", png(6000, 5000)),
        ("profile", profile()),
        ("WebP", webp()),
        ("BMP", bmp()),
        ("JPEG", jpeg(6000, 4000)),
    ]
}

/// Teaches `image` as a host would, over a separate connection.
fn teach(socket: &str, image: &[u8]) -> Result<(), ClientError> {
    let endpoint = Endpoint::Unix(socket.to_owned());
    let mut options = endpoint.options();
    options.reply = TIMEOUT;
    (options.first_attempts, options.attempts) = (1, 1);
    endpoint
        .client(&SystemClock::new(), options)
        .teach("birds", "new", image)
        .map(drop)
}

fn socket(device: &Device) -> String {
    device.path("state/control.sock").display().to_string()
}

#[track_caller]
fn expect_within_budget(device: &Device, base: u64, what: &str) {
    let used = device.peak_memory().saturating_sub(base);
    println!("{what}: {} kB above {} kB", used >> 10, base >> 10);
    assert!(
        used < BUDGET + REST,
        "{what}: {} MB above {} MB",
        used >> 20,
        base >> 20
    );
}

#[test]
fn memory_stays_within_the_limit_for_every_bomb_shown_or_taught() {
    let mut device = Device::with_birds(LIMITS);
    let before = device.ask(&image(1));
    for (name, bytes) in bombs() {
        let base = device.memory_from_here();
        device.ask(&bytes);
        expect_within_budget(&device, base, &format!("{name}, shown"));
        let base = device.memory_from_here();
        let _ = teach(&socket(&device), &bytes);
        expect_within_budget(&device, base, &format!("{name}, taught"));
    }
    assert_eq!(device.ask(&image(1))["top"], before["top"]);
    // A photograph of a phone's size is classified, not refused.
    assert_eq!(device.ask(&jpeg(6000, 4000))["task"], "birds");
}

#[test]
fn memory_stays_within_the_limit_while_four_peers_teach_at_once() {
    let mut device = Device::with_birds(LIMITS);
    device.ask(&image(1));
    let base = device.memory_from_here();
    let socket = socket(&device);
    let images = [png(4000, 5000), bmp(), jpeg(5000, 4000), webp()];
    thread::scope(|scope| {
        let peers: Vec<_> = (0..4)
            .map(|peer| {
                let (socket, images) = (&socket, &images);
                scope.spawn(move || {
                    for (index, image) in images.iter().cycle().skip(peer).take(images.len()).enumerate() {
                        // Bytes after the end make them four images.
                        let own = [image, &[peer as u8 + 1, index as u8][..]].concat();
                        let taught = teach(socket, &own);
                        assert!(matches!(&taught, Ok(()) | Err(ClientError::Refused(_))), "{taught:?}");
                    }
                })
            })
            .collect();
        for image in &images {
            device.ask(image);
        }
        for peer in peers {
            peer.join().unwrap();
        }
    });
    expect_within_budget(&device, base, "four peers and frames");
    let answer = device.ask(&image(1));
    assert_eq!(answer["task"], "birds", "{answer}\n{}", device.log());
}

#[test]
fn no_image_ends_a_process_without_more_memory() {
    for resource in [Resource::As, Resource::Data] {
        let mut device = Device::with_birds("[limits]\nimage_memory = 2000000000\nimage_ms = 600000\n");
        let before = device.ask(&image(1));
        let field = if resource == Resource::As { "VmSize:" } else { "VmData:" };
        let limit = Rlimit {
            current: Some((device.kilobytes(field) << 10) + (40 << 20)),
            maximum: None,
        };
        prlimit(Some(device.pid()), resource, limit).unwrap();
        for (name, bytes) in bombs() {
            device.show(&bytes);
            match device.answer_or_end() {
                Heard::Result(answer) => {
                    assert_eq!(answer["frame"].as_str().map(str::is_empty), Some(false), "{name}");
                }
                // There is not enough memory even for the bytes of the file.
                _ => assert!(device.log().contains("cannot read it"), "{name}: {}", device.log()),
            }
            let taught = teach(&socket(&device), &bytes);
            assert!(
                matches!(&taught, Ok(()) | Err(ClientError::Refused(_))),
                "{name}: {taught:?}"
            );
        }
        assert_eq!(device.ask(&image(1))["top"], before["top"]);
    }
}

/// Waits until the record contains an image, then kills the device. If `ended` returns a reason, gives up with it.
fn kill_while_decoding(device: &mut Device, ended: impl Fn() -> Option<String>) {
    let record = device.path("state/in-hand");
    let started = Instant::now();
    loop {
        let slots = fs::read(&record).unwrap_or_default();
        if slots.chunks(1024).any(|slot| slot[0] == b'{') {
            break;
        }
        if let Some(reason) = ended() {
            panic!("it was decoded before: {reason}\n{}", device.log());
        }
        assert!(
            started.elapsed() < TIMEOUT,
            "no image is being decoded\n{}",
            device.log()
        );
        thread::sleep(Duration::from_millis(1));
    }
    device.kill();
}

/// Without quarantine, an image of 90 megapixels would crash the device at each start, and the third crash would revert
/// an adapter on trial.
#[test]
fn a_frame_on_which_the_device_crashes_twice_is_quarantined_and_no_adapter_is_blamed() {
    let port = free_port();
    let http = format!("[http]\nlisten = '127.0.0.1:{port}'\n[limits]\nimage_ms = 600000\n");
    let keep = "[source]\nkind = 'directory'\npath = 'frames'\n";
    let mut device = Device::with_source(keep, &http);
    device.start();
    for version in [1, 2] {
        device.push(&signed(&adapter("birds", version))).unwrap();
        if version == 1 {
            device.host(|client| client.mark_good("birds")).unwrap();
            device.switch("birds");
        }
    }
    // Decoding takes long enough for the kill.
    device.show(&png(5000, 18_000));
    kill_while_decoding(&mut device, || None);
    device.start();
    kill_while_decoding(&mut device, || None);
    assert!(device.log().contains("trying once more"), "{}", device.log());
    device.start();
    let answer = device.ask(&image(1));
    assert_eq!(
        (&answer["version"], &answer["trial"]),
        (&2.into(), &true.into()),
        "{answer}"
    );
    assert!(device.path("frames/.rejected/000000.png").exists());
    assert!(!device.path("frames/000000.png").exists());
    let (_, metrics) = http_get(port, "/metrics");
    assert!(metrics.contains("clr_images_rejected_total 1"), "{metrics}");
    // The same bytes under another name.
    device.show(&fs::read(device.path("frames/.rejected/000000.png")).unwrap());
    let refused = device.answer();
    assert!(refused["error"].as_str().unwrap().contains("quarantined"), "{refused}");
    device.stop();
}

#[test]
fn a_taught_image_on_which_the_device_crashes_twice_is_refused() {
    let mut device = Device::with_birds("[limits]\nimage_ms = 600000\nexample_bytes = 33554432\n");
    let bomb = png(5000, 18_000);
    for _ in 0..2 {
        let (socket, bomb) = (socket(&device), bomb.clone());
        let (send, answers) = std::sync::mpsc::channel();
        let peer = thread::spawn(move || {
            let taught = teach(&socket, &bomb);
            let _ = send.send(format!("{taught:?}"));
            taught
        });
        kill_while_decoding(&mut device, || answers.try_recv().ok());
        assert!(peer.join().unwrap().is_err());
        device.start();
    }
    let Err(ClientError::Refused(failure)) = teach(&socket(&device), &bomb) else {
        panic!("it is taken")
    };
    assert_eq!(failure.code, FailureCode::EXAMPLES);
    assert!(failure.to_string().contains("quarantined"), "{failure}");
    assert_eq!(device.ask(&image(1))["task"], "birds");
}

#[test]
fn a_damaged_frame_is_an_error_and_is_counted() {
    let port = free_port();
    let mut device = Device::with_birds(&format!("[http]\nlisten = '127.0.0.1:{port}'\n"));
    let whole = jpeg(300, 200);
    for part in [30, 60, 95] {
        let answer = device.ask(&whole[..whole.len() * part / 100]);
        assert!(answer["error"].as_str().unwrap().contains("damaged"), "{answer}");
        assert_eq!(answer["confidence"], serde_json::Value::Null);
    }
    assert_eq!(device.ask(&whole)["task"], "birds");
    let (_, metrics) = http_get(port, "/metrics");
    assert!(metrics.contains("clr_images_damaged_total 3"), "{metrics}");
}
