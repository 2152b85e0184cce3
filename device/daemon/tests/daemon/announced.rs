//! Uploads without a trusted announcement write nothing to the disk until they are verified. Audience and minimum
//! versions are enforced.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use clr_adapters::{Digest, Encoding, Limits, SignedRelease, SignerClass, Terms, encode, sign, sign_release};
use clr_transfer::{
    Begin, ClientError, Committed, Decoder, FailureCode, FrameEvent, Head, Kind, Request, Response, encode_frame,
};
use rustix::process::Signal;

use super::{
    device::{Device, TIMEOUT, adapter, free_port, image, publisher, signed},
    http_client::http_get,
};

/// A peer that sends single requests.
struct Peer {
    stream: UnixStream,
    decoder: Decoder,
    sequence: u32,
}

impl Peer {
    fn new(device: &Device) -> Self {
        let stream = UnixStream::connect(device.path("state/control.sock")).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut peer = Self {
            stream,
            decoder: Decoder::default(),
            sequence: 0,
        };
        let hello = Request::Hello {
            min: 1,
            max: 1,
            chunk: 1024,
            client: "peer",
        };
        peer.ask(&hello, |reply| assert!(matches!(reply, Response::Welcome { .. })));
        peer
    }

    fn ask<T>(&mut self, request: &Request<'_>, take: impl FnOnce(Response<'_>) -> T) -> T {
        self.sequence += 1;
        let mut body = vec![b'Q'];
        body.extend(77_u32.to_le_bytes());
        body.extend(self.sequence.to_le_bytes());
        body.extend(postcard::to_allocvec(request).unwrap());
        let mut frame = Vec::new();
        encode_frame(&mut body, &mut frame);
        self.stream.write_all(&frame).unwrap();
        let mut byte = [0];
        loop {
            self.stream.read_exact(&mut byte).unwrap();
            if let (_, Some(FrameEvent::Frame)) = self.decoder.feed(&byte) {
                let (_, message) = Head::split(self.decoder.body()).unwrap();
                return take(Response::read(message).unwrap());
            }
        }
    }

    /// Begins an upload. Returns the transfer's number and the bytes held, or the failure.
    fn begin(&mut self, bytes: &[u8], kind: Kind) -> Result<(u32, u64), FailureCode> {
        let begin = Begin {
            digest: Digest::of(bytes),
            length: bytes.len() as u64,
            kind,
        };
        self.ask(&Request::Begin(begin), |reply| match reply {
            Response::Begun { transfer, held } => Ok((transfer, held)),
            Response::Failed(failure) => Err(failure.code),
            other => panic!("{other:?}"),
        })
    }

    fn chunk(&mut self, transfer: u32, offset: u64, data: &[u8]) -> u64 {
        let chunk = Request::Chunk { transfer, offset, data };
        self.ask(&chunk, |reply| match reply {
            Response::Held { held } => held,
            other => panic!("{other:?}"),
        })
    }

    /// Sends bytes from `held` on.
    fn send(&mut self, transfer: u32, bytes: &[u8], mut held: u64) {
        while held < bytes.len() as u64 {
            let end = bytes.len().min(held as usize + 1024);
            held = self.chunk(transfer, held, &bytes[held as usize..end]);
        }
    }

    fn commit(&mut self, bytes: &[u8], kind: Kind) -> Result<Committed, FailureCode> {
        let begin = Begin {
            digest: Digest::of(bytes),
            length: bytes.len() as u64,
            kind,
        };
        self.ask(&Request::Commit(begin), |reply| match reply {
            Response::Committed(committed) => Ok(committed),
            Response::Failed(failure) => Err(failure.code),
            other => panic!("{other:?}"),
        })
    }
}

/// Returns the files of the state folder with the digests of their contents. Leaves out the audit log and the record of
/// the image being decoded, which are written for every peer.
fn state(device: &Device) -> BTreeMap<PathBuf, Digest> {
    let entries = walkdir::WalkDir::new(device.path("state"))
        .into_iter()
        .filter_entry(|entry| !["audit", "in-hand"].contains(&entry.file_name().to_str().unwrap_or_default()))
        .map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| (entry.path().to_owned(), Digest::of(&fs::read(entry.path()).unwrap())))
        .collect()
}

fn code<T: std::fmt::Debug>(pushed: Result<T, ClientError>) -> FailureCode {
    match pushed {
        Err(ClientError::Refused(failure)) => failure.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

const SOURCE: &str = "[source]\nkind = 'directory'\npath = 'frames'\ndelete = true\n";

#[test]
fn an_upload_without_announcement_writes_no_byte_until_it_is_verified() {
    let device = Device::with_birds("");
    let before = state(&device);
    let plain = encode(&adapter("birds", 2), Encoding::Int8).unwrap();
    let older = sign(&plain, SignerClass::Publisher, &publisher()).unwrap();
    let example = || Kind::Example {
        task: "birds".into(),
        label: "wren".into(),
    };
    let image = image(3);
    let mut peer = Peer::new(&device);
    for (bytes, kind) in [
        (&plain, Kind::Adapter),
        (&older, Kind::Adapter),
        (&image, example()),
        (&b"no image at all".to_vec(), example()),
    ] {
        let (transfer, held) = peer.begin(bytes, kind.clone()).unwrap();
        assert_eq!(held, 0);
        let middle = bytes.len() / 2;
        peer.send(transfer, &bytes[..middle], 0);
        assert_eq!(state(&device), before);
        // Another connection continues where the first one was interrupted.
        drop(peer);
        peer = Peer::new(&device);
        let (transfer, held) = peer.begin(bytes, kind.clone()).unwrap();
        assert_eq!(held, middle as u64);
        peer.send(transfer, bytes, held);
        assert_eq!(state(&device), before);
    }
    assert_eq!(peer.commit(&plain, Kind::Adapter).unwrap_err(), FailureCode::refusal(5));
    assert_eq!(
        peer.commit(b"no image at all", example()).unwrap_err(),
        FailureCode::EXAMPLES
    );
    assert_eq!(state(&device), before);
    peer.commit(&image, example()).unwrap();
    let with_image = state(&device);
    assert_eq!(with_image.len(), before.len() + 1);
    peer.commit(&older, Kind::Adapter).unwrap();
    assert_eq!(device.list()[0].version, 2);
}

#[test]
fn an_announced_upload_resumes_after_the_device_was_killed() {
    let mut device = Device::with_birds("");
    let file = signed(&adapter("birds", 2));
    let kind = Kind::of_file(&file);
    assert!(matches!(kind, Kind::Release(_)));
    let mut peer = Peer::new(&device);
    let (transfer, _) = peer.begin(&file, kind.clone()).unwrap();
    peer.send(transfer, &file[..3_000], 0);
    device.kill();
    device.start();
    let pushed = device.push(&file).unwrap();
    assert_eq!((pushed.resumed, pushed.sent), (3_000, file.len() as u64 - 3_000));
    assert_eq!(device.list()[0].version, 2);
}

#[test]
fn hostile_announcements_write_nothing_and_junk_under_a_valid_one_is_dropped_at_commit() {
    let port = free_port();
    let device = Device::with_birds(&format!(
        "[http]\nlisten = '127.0.0.1:{port}'\n[limits]\nadapter_bytes = 200000\n"
    ));
    let before = state(&device);
    let file = signed(&adapter("birds", 2));
    let announced = SignedRelease::of_file(&file, &Limits::DEFAULT).unwrap().unwrap();
    let other = |change: fn(&mut clr_adapters::Release)| {
        let mut release = announced.release.clone();
        change(&mut release);
        Kind::Release(Box::new(release.sign(&publisher()).unwrap()))
    };
    let mut forged = announced.clone();
    forged.release.version = 9;
    let mut peer = Peer::new(&device);
    for (what, bytes, kind, expected) in [
        ("another length", &file[1..], other(|_| ()), FailureCode::refusal(2)),
        (
            "forged",
            &file,
            Kind::Release(Box::new(forged)),
            FailureCode::refusal(7),
        ),
        (
            "an old version",
            &file,
            other(|release| release.version = 1),
            FailureCode::refusal(12),
        ),
        (
            "expired",
            &file,
            other(|release| release.expires = Some(1_700_000_000)),
            FailureCode::refusal(11),
        ),
        (
            "for others",
            &file,
            other(|release| release.audience = vec!["gate".into()]),
            FailureCode::refusal(16),
        ),
    ] {
        assert_eq!(peer.begin(bytes, kind).unwrap_err(), expected, "{what}");
        assert_eq!(state(&device), before, "{what}");
    }
    let huge = other(|release| release.length = 1 << 40);
    let begin = Begin {
        digest: Digest::of(&file),
        length: 1 << 40,
        kind: huge,
    };
    let code = peer.ask(&Request::Begin(begin), |reply| match reply {
        Response::Failed(failure) => failure.code,
        other => panic!("{other:?}"),
    });
    assert_eq!(code, FailureCode::TOO_LARGE);
    // Random bytes of the announced length in place of the file.
    let begin = Begin {
        digest: Digest::of(&file),
        length: file.len() as u64,
        kind: Kind::of_file(&file),
    };
    let transfer = peer.ask(&Request::Begin(begin), |reply| match reply {
        Response::Begun { transfer, .. } => transfer,
        other => panic!("{other:?}"),
    });
    peer.send(transfer, &vec![0x5a; file.len()], 0);
    let during = state(&device);
    let added: Vec<_> = during.iter().filter(|(path, _)| !before.contains_key(*path)).collect();
    assert_eq!(added.len(), 1);
    let length = fs::metadata(added[0].0).unwrap().len();
    assert!(length < file.len() as u64 + 4096, "bounded by what was announced");
    assert_eq!(
        peer.commit(&file, Kind::of_file(&file)).unwrap_err(),
        FailureCode::refusal(3)
    );
    assert_eq!(state(&device), before);
    device.push(&file).unwrap();
    let (_, page) = http_get(port, "/metrics");
    let counted = |kind: &str| {
        let name = format!("clr_written_bytes_total{{kind=\"{kind}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{page}")).parse::<f64>().unwrap()
    };
    assert!(counted("upload") >= 2.0 * file.len() as f64, "the junk and the file");
    assert!(counted("adapter") >= file.len() as f64);
}

#[test]
fn audience_and_minimum_are_reloaded_and_survive_a_factory_reset() {
    let mut device = Device::new("");
    let configure = |device: &Device, top: &str, tables: &str| {
        device.configure(&format!("{top}{SOURCE}{tables}"), &[publisher()]);
    };
    configure(&device, "audience = ['fleet-a']\n", "");
    device.start();
    let for_audience = |version, patterns: &[&str]| {
        let plain = encode(&adapter("birds", version), Encoding::Int8).unwrap();
        let terms = Terms {
            audience: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
            ..Terms::default()
        };
        sign_release(&plain, &terms, &publisher()).unwrap()
    };
    assert_eq!(
        code(device.push(&for_audience(1, &["fleet-b"]))),
        FailureCode::refusal(16)
    );
    // The device's own name counts as an audience name.
    device.push(&for_audience(1, &["te*"])).unwrap();
    device.push(&for_audience(2, &["fleet-*"])).unwrap();

    configure(&device, "audience = ['fleet-b']\n", "[trust.minimum]\nbirds = 7\n");
    device.signal(Signal::HUP);
    let started = std::time::Instant::now();
    // The reload is asynchronous, so the push is retried until the file is accepted.
    while device.push(&for_audience(7, &["fleet-b"])).is_err() {
        assert!(started.elapsed() < TIMEOUT, "{}", device.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    device.stop();
    // A factory reset removes the state, but not the configuration.
    fs::remove_dir_all(device.path("state")).unwrap();
    device.start();
    assert_eq!(
        code(device.push(&for_audience(6, &["fleet-b"]))),
        FailureCode::refusal(17)
    );
    let older = encode(&adapter("birds", 6), Encoding::Int8).unwrap();
    let older = sign(&older, SignerClass::Publisher, &publisher()).unwrap();
    assert_eq!(code(device.push(&older)), FailureCode::refusal(17));
    device.push(&for_audience(7, &["fleet-b"])).unwrap();
}
