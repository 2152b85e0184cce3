//! The device's end of the update protocol: `clr_transfer::{Decoder, Session}`.
//!
//! The bytes are tried as a stream, and once more as messages in sound frames, after a greeting: checksums would stop almost every
//! mutation at the door.
#![no_main]

use std::{collections::HashMap, sync::Mutex};

use clr_adapters::Digest;
use clr_transfer::{
    Begin, Capabilities, Committed, Decoder, Device, DeviceInfo, Failure, FailureCode, FrameEvent, Head, PullInfo,
    Request, Response, Session, SessionLimits, Slot, Status, TaskSummary, encode_frame,
};
use libfuzzer_sys::fuzz_target;

/// Keeps what arrives and asserts that it is called as promised.
#[derive(Default)]
struct Keeping(Mutex<HashMap<Digest, (u64, Vec<u8>)>>);

fn no() -> Failure {
    Failure::new(FailureCode::NO_TASK, "no")
}

impl Device for Keeping {
    fn hello(&self) -> DeviceInfo {
        DeviceInfo {
            device: "fuzzed".into(),
            software: "0".into(),
            backbone: Digest([0; 32]),
            capabilities: Capabilities::default(),
        }
    }
    fn begin(&self, begin: &Begin) -> Result<u64, Failure> {
        assert!(begin.length <= SessionLimits::default().transfer_bytes);
        let mut kept = self.0.lock().unwrap();
        let (length, held) = kept.entry(begin.digest).or_insert((begin.length, Vec::new()));
        *length = (*length).max(begin.length);
        Ok(held.len() as u64)
    }
    fn chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure> {
        let mut kept = self.0.lock().unwrap();
        let (length, held) = kept.get_mut(digest).expect("a chunk of a transfer that was begun");
        assert!(!data.is_empty() && offset + data.len() as u64 <= *length);
        if held.len() as u64 == offset {
            held.extend(data);
        }
        Ok(held.len() as u64)
    }
    fn commit(&self, begin: &Begin) -> Result<Committed, Failure> {
        let kept = self.0.lock().unwrap();
        match kept.get(&begin.digest) {
            Some((_, held)) if Digest::of(held) == begin.digest => Ok(Committed::Adapter {
                task: "fuzzed".into(),
                version: 1,
                digest: begin.digest,
                trial_frames: 0,
            }),
            Some(_) => Err(Failure::new(FailureCode::WRONG_DIGEST, "wrong")),
            None => Err(Failure::new(FailureCode::NO_TRANSFER, "none")),
        }
    }
    fn abort(&self, _: &Digest) {}
    fn status(&self) -> Result<Status, Failure> {
        Err(no())
    }
    fn list(&self) -> Result<Vec<TaskSummary>, Failure> {
        Ok(Vec::new())
    }
    fn switch(&self, task: &str) -> Result<(), Failure> {
        assert!(!task.is_empty() && task.len() <= clr_transfer::MAX_TASK);
        Ok(())
    }
    fn rollback(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn restore(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn remove(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn mark_good(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn mark_bad(&self, _: &str) -> Result<(), Failure> {
        Err(no())
    }
    fn open(&self, _: &str, _: Slot) -> Result<PullInfo, Failure> {
        Err(no())
    }
    fn read(&self, _: &Digest, _: u64, out: &mut [u8]) -> Result<usize, Failure> {
        assert!(out.len() <= clr_transfer::MAX_CHUNK as usize);
        Ok(out.len())
    }
}

/// Feeds a stream; every reply must be a sound frame with one message.
fn feed(session: &mut Session<'_>, decoder: &mut Decoder, mut bytes: &[u8]) {
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
            let (_, message) = Head::split(own.body()).expect("a head");
            Response::read(message).expect("a reply");
        }
    }
}

fn framed(sequence: u32, message: &[u8]) -> Vec<u8> {
    let mut body = vec![b'Q', 1, 0, 0, 0];
    body.extend(sequence.to_le_bytes());
    body.extend(&message[..message.len().min(clr_transfer::MAX_BODY - 9)]);
    let mut out = Vec::new();
    encode_frame(&mut body, &mut out);
    out
}

fuzz_target!(|data: &[u8]| {
    let device = Keeping::default();
    feed(&mut Session::new(&device, SessionLimits::default()), &mut Decoder::default(), data);

    let device = Keeping::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let mut decoder = Decoder::default();
    let hello = postcard::to_allocvec(&Request::Hello {
        min: 1,
        max: 1,
        chunk: 4096,
        client: "",
    })
    .expect("a hello");
    feed(&mut session, &mut decoder, &framed(1, &hello));
    let (mut rest, mut sequence) = (data, 1);
    while let [length, tail @ ..] = rest {
        let (message, tail) = tail.split_at((*length as usize).min(tail.len()));
        sequence += 1;
        feed(&mut session, &mut decoder, &framed(sequence, message));
        rest = tail;
    }
});
