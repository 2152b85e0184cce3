//! False sizes cost no more memory than the bytes sent. Altered or repeated sessions are never accepted wrongly.

use std::time::Duration;

use clr_transfer::{
    Begin, Client, ClientError, ClientOptions, Decoder, Digest, FailureCode, FrameEvent, Kind, Request, Response,
    Session, SessionLimits, Slot,
};
use embedded_io::ErrorKind;

use crate::{
    allocation::peak,
    garbage::{HELLO, frame, raw_frame, replies},
    line::{Faults, Line, Random, SimulatedClock},
    memory_device::MemoryDevice,
};

const MEBIBYTE: usize = 1 << 20;
/// Step between the tested positions in a session: larger under Miri.
const STEP: usize = if cfg!(miri) { 397 } else { 1 };

#[test]
fn a_frame_without_end_is_skipped_within_a_mebibyte() {
    const PIECES: u64 = if cfg!(miri) { 20 } else { 5_000 };
    let mut decoder = Decoder::default();
    let piece = vec![0x55; 4096];
    let rise = peak(|| {
        for _ in 0..PIECES {
            assert_eq!(decoder.feed(&piece), (4096, None));
        }
        assert_eq!(decoder.feed(&[0]), (1, Some(FrameEvent::Damaged)));
    });
    assert!(rise <= MEBIBYTE, "{rise} bytes");
    assert_eq!(decoder.skipped(), PIECES * 4096);
}

#[test]
fn oversize_claims_are_refused_without_allocating() {
    let device = MemoryDevice::default();
    let begin = |length, kind| {
        Request::Begin(Begin {
            digest: Digest([1; 32]),
            length,
            kind,
        })
    };
    let delta = Kind::Delta {
        base: Digest([2; 32]),
        target: Digest([3; 32]),
        length: u64::MAX,
    };
    let requests = [
        begin(u64::MAX, Kind::Adapter),
        begin(65 << 20, Kind::Adapter),
        begin(10, delta),
    ];
    let mut session = Session::new(&device, SessionLimits::default());
    let mut decoder = Decoder::default();
    replies(&mut session, &mut decoder, &frame(1, 1, &HELLO));
    for (sequence, request) in (2..).zip(requests) {
        let bytes = frame(1, sequence, &request);
        let rise = peak(|| {
            let answers = replies(&mut session, &mut decoder, &bytes);
            let Response::Failed(failure) = &answers[0].1 else {
                panic!("{answers:?}")
            };
            assert_eq!(failure.code, FailureCode::TOO_LARGE);
        });
        assert!(rise <= MEBIBYTE, "{rise} bytes");
    }
    // Texts and data with a claimed length of four gigabytes.
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let mut messages = vec![vec![0, 1, 1, 0], vec![7], vec![6]];
    messages.push([&[1][..], &[9; 32], &[5, 2]].concat());
    messages.push([&[2_u8][..], &[1, 0]].concat());
    messages.push(vec![15]);
    for (sequence, mut message) in (10..).zip(messages) {
        message.extend(huge);
        let bytes = raw_frame(b'Q', 1, sequence, &message);
        let rise = peak(|| {
            let answers = replies(&mut session, &mut decoder, &bytes);
            let Response::Failed(failure) = &answers[0].1 else {
                panic!("{answers:?}")
            };
            assert_eq!(failure.code, FailureCode::MALFORMED, "{message:?}");
        });
        assert!(rise <= MEBIBYTE, "{rise} bytes");
    }
}

#[test]
fn a_chunk_larger_than_agreed_or_beyond_the_end_is_refused() {
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let begin = Begin {
        digest: Digest([1; 32]),
        length: 1_500,
        kind: Kind::Adapter,
    };
    let data = &[7; 1_500][..];
    let mut bytes = frame(1, 1, &HELLO);
    bytes.extend(frame(1, 2, &Request::Begin(begin)));
    bytes.extend(frame(
        1,
        3,
        &Request::Chunk {
            transfer: 1,
            offset: 0,
            data,
        },
    ));
    for (sequence, offset) in [(4, 1_000), (5, u64::MAX)] {
        let data = &data[..600];
        bytes.extend(frame(
            1,
            sequence,
            &Request::Chunk {
                transfer: 1,
                offset,
                data,
            },
        ));
    }
    let answers = replies(&mut session, &mut Decoder::default(), &bytes);
    let codes = answers[2..].iter().map(|(_, answer)| match answer {
        Response::Failed(failure) => failure.code,
        other => panic!("{other:?}"),
    });
    assert!(codes.eq([FailureCode::TOO_LARGE, FailureCode::MALFORMED, FailureCode::MALFORMED]));
    assert!(device.0.lock().unwrap().parts.values().all(Vec::is_empty));
}

/// A hostile device that returns one prepared reply to each request.
struct Liar<'c> {
    replies: Vec<Vec<u8>>,
    clock: &'c SimulatedClock,
    ready: Vec<u8>,
    sent: u32,
}

impl embedded_io::ErrorType for Liar<'_> {
    type Error = ErrorKind;
}

impl embedded_io::Read for Liar<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        if self.ready.is_empty() {
            self.clock.advance(Duration::from_secs(1));
            return Err(ErrorKind::TimedOut);
        }
        let count = buf.len().min(self.ready.len());
        buf[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        Ok(count)
    }
}

impl embedded_io::Write for Liar<'_> {
    fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
        self.sent += 1;
        if let Some(message) = self.replies.get(self.sent as usize - 1) {
            self.ready.extend(raw_frame(b'R', 1, self.sent, message));
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

fn welcome() -> Vec<u8> {
    let device = clr_transfer::Device::hello(&MemoryDevice::default());
    postcard::to_allocvec(&Response::Welcome {
        version: 1,
        chunk: 1024,
        device,
    })
    .unwrap()
}

#[test]
fn a_hostile_device_makes_the_host_neither_allocate_nor_loop() {
    let opened = postcard::to_allocvec(&Response::Opened(clr_transfer::PullInfo {
        digest: Digest([1; 32]),
        length: u64::MAX,
    }))
    .unwrap();
    // Cases: a page that claims four billion tasks, an empty page that claims to have a successor, a file without end,
    // data that never arrive.
    let cases: [(&str, Vec<u8>); 3] = [
        ("tasks", vec![8, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("tasks", vec![8, 0, 1]),
        ("file", opened),
    ];
    for (what, lie) in cases {
        let clock = SimulatedClock::default();
        let connect = || {
            Ok::<_, String>(Liar {
                replies: vec![welcome(), lie.clone(), lie.clone()],
                clock: &clock,
                ready: Vec::new(),
                sent: 0,
            })
        };
        let mut client = Client::new(connect, &clock, ClientOptions::default());
        let rise = peak(|| match what {
            "tasks" => assert!(matches!(client.list(), Err(ClientError::Unexpected { .. }))),
            _ => assert!(matches!(
                client.pull("birds", Slot::Serving, 1 << 26, &mut |_| ()),
                Err(ClientError::TooLarge { .. })
            )),
        });
        assert!(rise <= MEBIBYTE + 100_000, "{what}: {rise} bytes");
    }
}

/// Returns the requests of a host in a complete session: hello, begin, chunks, commit, status, switch.
fn recorded(file: &[u8]) -> Vec<u8> {
    let begin = Begin {
        digest: Digest::of(file),
        length: file.len() as u64,
        kind: Kind::Adapter,
    };
    let mut requests = vec![HELLO, Request::Begin(begin.clone())];
    for (index, data) in file.chunks(70).enumerate() {
        let offset = 70 * index as u64;
        requests.push(Request::Chunk {
            transfer: 1,
            offset,
            data,
        });
    }
    requests.push(Request::Commit(begin));
    requests.push(Request::Status);
    requests.push(Request::Switch { task: "birds" });
    (1..)
        .zip(&requests)
        .flat_map(|(sequence, request)| frame(1, sequence, request))
        .collect()
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_recorded_session_gives_the_file_or_nothing() {
    let file = Random(8).bytes(200);
    let session = recorded(&file);
    let run = |bytes: &[u8]| {
        let device = MemoryDevice::default();
        let clock = SimulatedClock::default();
        Line::new(&device, SessionLimits::default(), &clock, Faults::default()).send_to_device(bytes);
        let kept = device.0.into_inner().unwrap();
        assert!(
            kept.files.values().all(|held| *held == file),
            "something wrong was accepted"
        );
        kept.files.len()
    };
    assert_eq!(run(&session), 1);
    for length in (0..session.len()).step_by(STEP) {
        run(&session[..length]);
    }
    for bit in (0..8 * session.len()).step_by(STEP) {
        let mut flipped = session.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        run(&flipped);
    }
}
