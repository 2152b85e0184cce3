//! Garbage before, between and after frames is skipped and counted. Echoes of own frames are not taken for replies.

use std::sync::Mutex;

use clr_transfer::{
    Decoder, Digest, Direction, FrameEvent, Head, Kind, Request, Response, Session, SessionLimits, encode_frame,
};

use crate::{line::Random, memory_device::MemoryDevice};

/// The frame of a request.
pub(crate) fn frame(session: u32, sequence: u32, request: &Request<'_>) -> Vec<u8> {
    raw_frame(b'Q', session, sequence, &postcard::to_allocvec(request).unwrap())
}

pub(crate) fn raw_frame(direction: u8, session: u32, sequence: u32, message: &[u8]) -> Vec<u8> {
    let mut body = vec![direction];
    body.extend(session.to_le_bytes());
    body.extend(sequence.to_le_bytes());
    body.extend(message);
    let mut out = Vec::new();
    encode_frame(&mut body, &mut out);
    out
}

pub(crate) const HELLO: Request<'static> = Request::Hello {
    min: 1,
    max: 1,
    chunk: 1024,
    client: "test",
};

/// Leaked bytes that replies borrow from, referenced here so that a leak check does not report them.
static KEPT: Mutex<Vec<&[u8]>> = Mutex::new(Vec::new());

/// Returns all replies to the frames in `bytes`.
pub(crate) fn replies(
    session: &mut Session<'_>,
    decoder: &mut Decoder,
    mut bytes: &[u8],
) -> Vec<(Head, Response<'static>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (taken, event) = decoder.feed(bytes);
        bytes = &bytes[taken..];
        let reply = match event {
            Some(FrameEvent::Frame) => session.handle(decoder.body()).map(<[u8]>::to_vec),
            Some(FrameEvent::Damaged) => Some(session.damaged().to_vec()),
            None => None,
        };
        if let Some(reply) = reply {
            let mut own = Decoder::default();
            let mut rest = reply.as_slice();
            while !rest.is_empty() {
                let (taken, event) = own.feed(rest);
                rest = &rest[taken..];
                if event.is_some() {
                    let (head, message) = Head::split(own.body()).unwrap();
                    let message: &'static [u8] = message.to_vec().leak();
                    KEPT.lock().unwrap().push(message);
                    all.push((head, Response::read(message).unwrap()));
                }
            }
        }
    }
    all
}

#[test]
fn garbage_around_frames_is_skipped_and_counted() {
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let mut decoder = Decoder::default();
    let mut bytes = b"login: root\r\n~# ".to_vec();
    bytes.extend(frame(1, 1, &HELLO));
    bytes.extend([0xff; 300]);
    bytes.extend(frame(1, 2, &Request::Status));
    bytes.extend([0; 50]);
    bytes.extend(frame(1, 3, &Request::TuneStatus));
    bytes.extend(b"bye");
    let answers = replies(&mut session, &mut decoder, &bytes);
    let sequences: Vec<_> = answers.iter().map(|(head, _)| head.sequence).collect();
    assert_eq!(
        sequences,
        [0, 1, 0, 2, 3],
        "a request to repeat for each stretch of garbage"
    );
    assert_eq!((decoder.frames(), decoder.damaged()), (3, 2));
    assert_eq!(decoder.skipped(), 16 + 300);
    assert!(answers.iter().all(|(head, _)| head.direction == Direction::Reply));
}

#[test]
fn random_garbage_never_hides_the_next_frame() {
    let mut random = Random(11);
    for round in 0..if cfg!(miri) { 5 } else { 300_u32 } {
        let device = MemoryDevice::default();
        let mut session = Session::new(&device, SessionLimits::default());
        let mut decoder = Decoder::default();
        let length = (random.next() % 3000) as usize;
        let mut bytes = random.bytes(length);
        bytes.extend(frame(round, 1, &HELLO));
        let answers = replies(&mut session, &mut decoder, &bytes);
        assert!(
            matches!(answers.last(), Some((_, Response::Welcome { .. }))),
            "round {round}"
        );
    }
}

#[test]
fn a_device_ignores_echoes_of_its_own_replies() {
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let reply = session.damaged().to_vec();
    assert_eq!(replies(&mut session, &mut Decoder::default(), &reply), []);
}

#[test]
fn a_duplicate_request_is_executed_once_and_a_late_one_never() {
    let device = MemoryDevice::with_task("birds", b"file");
    let mut session = Session::new(&device, SessionLimits::default());
    let mut decoder = Decoder::default();
    let rollback = frame(1, 2, &Request::Rollback { task: "birds" });
    let mut bytes = frame(1, 1, &HELLO);
    for _ in 0..3 {
        bytes.extend(&rollback);
    }
    bytes.extend(frame(1, 3, &Request::Status));
    bytes.extend(&rollback);
    let answers = replies(&mut session, &mut decoder, &bytes);
    let sequences: Vec<_> = answers.iter().map(|(head, _)| head.sequence).collect();
    assert_eq!(sequences, [1, 2, 2, 2, 3]);
    assert_eq!(device.0.lock().unwrap().acts, ["rollback birds"]);
}

#[test]
fn a_frame_of_another_session_is_refused_as_such() {
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let mut bytes = frame(1, 1, &HELLO);
    bytes.extend(frame(9, 2, &Request::Status));
    bytes.extend(frame(1, 2, &Request::Status));
    let answers = replies(&mut session, &mut Decoder::default(), &bytes);
    let Response::Failed(failure) = &answers[1].1 else {
        panic!("{answers:?}")
    };
    assert_eq!(failure.code, clr_transfer::FailureCode::SESSION);
    assert!(matches!(answers[2].1, Response::Status(_)));
}

#[test]
fn an_abandoned_number_is_no_open_transfer() {
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let file = vec![3; 100];
    let begin = clr_transfer::Begin {
        digest: Digest::of(&file),
        length: 100,
        kind: Kind::Adapter,
    };
    let mut bytes = frame(1, 1, &HELLO);
    bytes.extend(frame(1, 2, &Request::Begin(begin.clone())));
    bytes.extend(frame(1, 3, &Request::Abort { digest: begin.digest }));
    let data = &file;
    bytes.extend(frame(
        1,
        4,
        &Request::Chunk {
            transfer: 1,
            offset: 0,
            data,
        },
    ));
    let answers = replies(&mut session, &mut Decoder::default(), &bytes);
    let Response::Failed(failure) = &answers[3].1 else {
        panic!("{answers:?}")
    };
    assert_eq!(failure.code, clr_transfer::FailureCode::NO_TRANSFER);
}
