//! Fuzz target of the device's end of the update protocol: `clr_transfer::{Decoder, Session}`.
//!
//! The bytes are tried in three ways: as a stream; as messages in valid frames after a greeting, because checksums
//! would reject almost every mutation; and as the actions of a host with three files on an unreliable line (greet,
//! begin, send, commit, duplicate, delay, damage, cut).
#![no_main]

#[path = "update_session/device.rs"]
mod device;
#[path = "update_session/host.rs"]
mod host;

use clr_transfer::{Decoder, FrameEvent, Head, Request, Response, Session, SessionLimits, encode_frame};
use libfuzzer_sys::{
    arbitrary::{Arbitrary as _, Unstructured},
    fuzz_target,
};

use device::Keeping;
use host::{Act, Host};

/// Returns the reply to a piece of a stream, if the piece ends a frame that needs one: its head, and the reply as a
/// single valid frame with one message.
fn answers(session: &mut Session<'_>, decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (taken, event) = decoder.feed(bytes);
        assert!(taken > 0);
        bytes = &bytes[taken..];
        let reply = match event {
            Some(FrameEvent::Frame) => session.handle(decoder.body()),
            Some(FrameEvent::Damaged) => Some(session.damaged()),
            None => None,
        };
        if let Some(reply) = reply {
            let mut own = Decoder::default();
            let (taken, event) = own.feed(&reply[1..]);
            assert_eq!((taken, event), (reply.len() - 1, Some(FrameEvent::Frame)));
            let (head, message) = Head::split(own.body()).expect("a head");
            Response::read(message).expect("a reply");
            all.push((head, message.to_vec()));
        }
    }
    all
}

fn framed(session: u32, sequence: u32, message: &[u8]) -> Vec<u8> {
    let mut body = vec![b'Q'];
    body.extend(session.to_le_bytes());
    body.extend(sequence.to_le_bytes());
    body.extend(&message[..message.len().min(clr_transfer::MAX_BODY - 9)]);
    let mut out = Vec::new();
    encode_frame(&mut body, &mut out);
    out
}

fn written(request: &Request<'_>) -> Vec<u8> {
    postcard::to_allocvec(request).expect("a request")
}

const HELLO: Request<'static> = Request::Hello {
    min: 1,
    max: 1,
    chunk: 4096,
    client: "",
};

fuzz_target!(|data: &[u8]| {
    let device = Keeping::default();
    answers(
        &mut Session::new(&device, SessionLimits::default()),
        &mut Decoder::default(),
        data,
    );

    let device = Keeping::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let mut decoder = Decoder::default();
    answers(&mut session, &mut decoder, &framed(1, 1, &written(&HELLO)));
    let (mut rest, mut sequence) = (data, 1);
    while let [length, tail @ ..] = rest {
        let (message, tail) = tail.split_at((*length as usize).min(tail.len()));
        sequence += 1;
        answers(&mut session, &mut decoder, &framed(1, sequence, message));
        rest = tail;
    }

    let Ok(acts) = <Vec<Act>>::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let device = Keeping::default();
    let mut host = Host::new(&device);
    acts.iter().take(256).for_each(|act| host.act(act));
});
