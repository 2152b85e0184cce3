//! Two concurrent transfers do not mix, on one connection or on two.

use clr_transfer::{Begin, Decoder, Digest, Kind, Request, Response, Session, SessionLimits};

use crate::{
    garbage::{HELLO, frame, replies},
    line::Random,
    memory_device::MemoryDevice,
};

/// Divisor of the sizes of files and pieces: larger under Miri, which takes a second per kilobyte.
const SMALLER: usize = if cfg!(miri) { 5 } else { 1 };

fn begin(file: &[u8]) -> Begin {
    Begin {
        digest: Digest::of(file),
        length: file.len() as u64,
        kind: Kind::Adapter,
    }
}

#[test]
fn two_transfers_on_one_connection_do_not_mix() {
    const LENGTH: usize = 5_000 / SMALLER;
    const PIECE: usize = LENGTH / 10;
    let (one, two) = (Random(1).bytes(LENGTH), Random(2).bytes(LENGTH));
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let mut decoder = Decoder::default();
    let mut sequence = 0;
    let mut ask = |request: &Request<'_>| {
        sequence += 1;
        let answers = replies(&mut session, &mut decoder, &frame(5, sequence, request));
        let [(_, answer)] = <[_; 1]>::try_from(answers).unwrap();
        answer
    };
    ask(&HELLO);
    for (number, file) in [(1, &one), (2, &two)] {
        let answer = ask(&Request::Begin(begin(file)));
        assert_eq!(
            answer,
            Response::Begun {
                transfer: number,
                held: 0
            }
        );
    }
    for offset in (0..LENGTH).step_by(PIECE) {
        for (transfer, file) in [(1, &one), (2, &two)] {
            let data = &file[offset..offset + PIECE];
            let held = (offset + PIECE) as u64;
            let offset = offset as u64;
            let answer = ask(&Request::Chunk { transfer, offset, data });
            assert_eq!(answer, Response::Held { held });
        }
    }
    for file in [&one, &two] {
        assert!(matches!(ask(&Request::Commit(begin(file))), Response::Committed(_)));
        assert!(device.holds(file));
    }
}

#[test]
fn two_connections_that_send_the_same_file_finish_both() {
    let file = Random(3).bytes(4_000 / SMALLER);
    let device = MemoryDevice::default();
    let mut sessions = [(); 2].map(|()| (Session::new(&device, SessionLimits::default()), Decoder::default(), 0));
    let mut held = [0_u64; 2];
    let mut ask = |which: usize, request: &Request<'_>| {
        let (session, decoder, sequence) = &mut sessions[which];
        *sequence += 1;
        replies(session, decoder, &frame(which as u32, *sequence, request))
            .pop()
            .unwrap()
            .1
    };
    for which in [0, 1] {
        ask(which, &HELLO);
        ask(which, &Request::Begin(begin(&file)));
    }
    for _ in 0..20 {
        for which in [0, 1] {
            let offset = held[which];
            let end = (offset as usize + (300 + 100 * which) / SMALLER).min(file.len());
            let data = &file[offset as usize..end];
            match ask(
                which,
                &Request::Chunk {
                    transfer: 1,
                    offset,
                    data,
                },
            ) {
                Response::Held { held: now } => held[which] = now,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(held, [file.len() as u64; 2]);
    for which in [0, 1] {
        assert!(matches!(
            ask(which, &Request::Commit(begin(&file))),
            Response::Committed(_)
        ));
    }
    assert!(device.holds(&file));
    assert_eq!(device.0.lock().unwrap().commits, 1);
}

#[test]
fn gaps_and_overlaps_are_answered_with_the_next_offset() {
    let file = Random(4).bytes(1_000);
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let mut decoder = Decoder::default();
    let mut bytes = frame(1, 1, &HELLO);
    bytes.extend(frame(1, 2, &Request::Begin(begin(&file))));
    let pieces = [
        (500, 600, 0),
        (0, 200, 200),
        (100, 300, 300),
        (0, 50, 300),
        (300, 1_000, 1_000),
    ];
    for (sequence, (from, to, _)) in (3..).zip(pieces) {
        let chunk = Request::Chunk {
            transfer: 1,
            offset: from as u64,
            data: &file[from..to],
        };
        bytes.extend(frame(1, sequence, &chunk));
    }
    bytes.extend(frame(1, 8, &Request::Commit(begin(&file))));
    let answers = replies(&mut session, &mut decoder, &bytes);
    for ((_, answer), (.., expected)) in answers[2..].iter().zip(pieces) {
        assert_eq!(*answer, Response::Held { held: expected });
    }
    assert!(device.holds(&file));
}
