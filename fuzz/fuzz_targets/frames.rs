//! Fuzz target of the frame decoder, `clr_transfer::Decoder`, and of the parsers of messages in frames.
//!
//! The first bytes determine how the rest is divided into pieces, what is mutated between them, and which body follows
//! the garbage.
#![no_main]

#[path = "../../adapters/format/tests/allocation.rs"]
mod allocation;

use clr_transfer::{Decoder, FrameEvent, Head, MAX_BODY, MAX_FRAME, Request, Response, encode_frame};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary, Unstructured},
    fuzz_target,
};

/// A part of the bytes on the line.
#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Raw(&'a [u8]),
    /// A sound frame around these bytes.
    Sound(&'a [u8]),
    /// A frame with a bit flipped.
    Damaged {
        body: &'a [u8],
        at: u16,
        bit: u8,
    },
    /// A frame cut short.
    Cut {
        body: &'a [u8],
        at: u16,
    },
    /// Many equal bytes, possibly more than the cap.
    Long {
        byte: u8,
        length: u32,
    },
}

#[derive(Arbitrary, Debug)]
struct Line<'a> {
    cap: u32,
    pieces: Vec<u16>,
    parts: Vec<Part<'a>>,
}

/// Returns the frame of a body that a decoder accepts, which has at least nine bytes.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut body = body[..body.len().min(MAX_BODY)].to_vec();
    body.resize(body.len().max(9), b'Q');
    let mut out = Vec::new();
    encode_frame(&mut body, &mut out);
    out
}

impl Part<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Raw(bytes) => out.extend(bytes),
            Self::Sound(body) => out.extend(framed(body)),
            Self::Damaged { body, at, bit } => {
                let mut frame = framed(body);
                let at = usize::from(at) % frame.len();
                frame[at] ^= 1 << (bit % 8);
                out.extend(frame);
            }
            Self::Cut { body, at } => {
                let frame = framed(body);
                out.extend(&frame[..usize::from(at) % frame.len()]);
            }
            Self::Long { byte, length } => {
                let length = out.len() + length as usize % (2 * MAX_FRAME);
                out.resize(length, byte);
            }
        }
    }
}

type Found = Vec<(FrameEvent, Vec<u8>)>;

/// Returns every event of a stream that arrives in pieces of these lengths, repeated cyclically.
fn events(decoder: &mut Decoder, mut bytes: &[u8], pieces: &[u16]) -> Found {
    let mut found = Found::new();
    let mut lengths = pieces.iter().cycle();
    while !bytes.is_empty() {
        let length = lengths.next().map_or(bytes.len(), |&length| usize::from(length).max(1));
        let (mut piece, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        while !piece.is_empty() {
            let (taken, event) = decoder.feed(piece);
            assert!(0 < taken && taken <= piece.len());
            assert!(event.is_some() || taken == piece.len() || piece[taken - 1] == 0);
            piece = &piece[taken..];
            if let Some(event) = event {
                assert!(!decoder.within());
                found.push((event, decoder.body().to_vec()));
            }
        }
    }
    found
}

/// Asserts that a message read from a body is encoded to the same bytes.
fn read(body: &[u8]) {
    let Some((_, message)) = Head::split(body) else { return };
    if let Ok(request) = Request::read(message) {
        let again = postcard::to_allocvec(&request).expect("a parsed message can be encoded");
        assert_eq!(Request::read(&again), Ok(request));
    }
    if let Ok(response) = Response::read(message) {
        let again = postcard::to_allocvec(&response).expect("a parsed message can be encoded");
        // Compares bytes, because NaN does not equal itself.
        let back = Response::read(&again).expect("an encoded message can be parsed");
        assert_eq!(postcard::to_allocvec(&back).as_deref(), Ok(again.as_slice()));
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(line) = Line::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut bytes = Vec::new();
    for part in line.parts.iter().take(64) {
        part.write(&mut bytes);
        if bytes.len() > 4 * MAX_FRAME {
            break;
        }
    }
    let garbage = bytes.len();
    let body = &data[..data.len().min(MAX_BODY)];
    bytes.extend(framed(body));

    let cap = if line.cap.is_multiple_of(2) {
        MAX_FRAME
    } else {
        line.cap as usize % (MAX_FRAME + 1)
    };
    let mut decoder = Decoder::new(cap);
    let mut found = Found::new();
    let mut pieces = Found::new();
    // The memory of copies of the events is not the decoder's, so it is counted separately.
    let peak = allocation::peak(|| {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (taken, _) = decoder.feed(rest);
            rest = &rest[taken..];
        }
    });
    assert!(peak <= 2 * cap.max(512), "{peak} bytes under a cap of {cap}");
    let mut decoder = Decoder::new(cap);
    found.extend(events(&mut decoder, &bytes, &[]));
    let sound = found.iter().filter(|(event, _)| *event == FrameEvent::Frame).count();
    assert_eq!(decoder.frames(), sound as u64);
    assert_eq!(decoder.damaged(), (found.len() - sound) as u64);
    assert!(decoder.skipped() <= bytes.len() as u64);
    pieces.extend(events(&mut Decoder::new(cap), &bytes, &line.pieces));
    assert_eq!(found, pieces, "the division into pieces changed the events");
    for (event, body) in &found {
        assert!(body.len() <= cap && (*event == FrameEvent::Frame || body.is_empty()));
        read(body);
    }
    // Garbage only affects itself: the frame after it is read if it fits.
    if bytes.len() - garbage - 2 <= cap {
        let mut expected = body.to_vec();
        expected.resize(expected.len().max(9), b'Q');
        assert_eq!(found.last(), Some(&(FrameEvent::Frame, expected)));
    }
});
