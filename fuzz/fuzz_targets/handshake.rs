//! The device's end of encrypted sessions: `clr_transfer::Channel`, which strangers reach before anything else.
//!
//! The bytes are taken as bodies in sound frames: handshake messages, sealed and plain requests. Nobody is let in by chance.
#![no_main]

#[path = "update_session/device.rs"]
mod device;

use clr_transfer::{
    AccessRefusal, Admission, Channel, Decoder, EnrolmentCode, FrameEvent, PeerKey, PeerSecret, SessionLimits,
};
use libfuzzer_sys::fuzz_target;

use device::Keeping;

struct Door;

impl Admission for Door {
    fn secret(&self) -> Option<PeerSecret> {
        Some(PeerSecret::from_bytes([1; 32]))
    }

    fn admits_plain(&self) -> bool {
        false
    }

    fn admits(&self, _: &PeerKey) -> Result<(), AccessRefusal> {
        Err(AccessRefusal::UnknownHost)
    }

    fn enrolment(&self) -> Option<[u8; 32]> {
        Some(EnrolmentCode::from_random([7; 20]).psk())
    }

    fn enrol(&self, _: &PeerKey, _: &str) -> Result<(), AccessRefusal> {
        panic!("enrolled without the code")
    }

    fn wrong_code(&self) {}

    fn enter(&self, _: Option<&PeerKey>) -> Result<(), AccessRefusal> {
        panic!("let in without a key")
    }
}

fuzz_target!(|data: &[u8]| {
    let device = Keeping::default();
    let mut channel = Channel::new(&device, &Door, SessionLimits::default());
    let mut rest = data;
    while let [length, tail @ ..] = rest {
        let (body, tail) = tail.split_at((*length as usize).min(tail.len()));
        rest = tail;
        if let Some(frame) = channel.handle(body) {
            let mut own = Decoder::default();
            let (taken, event) = own.feed(&frame[1..]);
            assert_eq!((taken, event), (frame.len() - 1, Some(FrameEvent::Frame)));
        }
    }
});
