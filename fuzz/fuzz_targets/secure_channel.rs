//! Fuzz target of the device's end of an encrypted connection: `clr_transfer::Channel`.
//!
//! It receives handshake frames, sealed frames and plain frames, arbitrary or altered, from a known host and from an
//! unknown one. A session may only be opened, and a request only executed, for the host whose key is known. Without the
//! code, no host may be enrolled.
#![no_main]

#[allow(dead_code)]
#[path = "update_session/device.rs"]
mod device;

use std::sync::{
    LazyLock, Mutex,
    atomic::{AtomicU64, Ordering},
};

use clr_transfer::{AccessRefusal, Admission, Channel, Decoder, FrameEvent, PeerKey, PeerSecret, SessionLimits};
use device::Keeping;
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary, Unstructured},
    fuzz_target,
};
use snow::{Builder, StatelessTransportState};

const HEAD: usize = 9;
const KNOWN: [u8; 32] = [1; 32];
const STRANGER: [u8; 32] = [2; 32];
const DEVICE: [u8; 32] = [3; 32];

static HOST: LazyLock<PeerKey> = LazyLock::new(|| PeerSecret::from_bytes(KNOWN).public());
static DEVICE_KEY: LazyLock<PeerKey> = LazyLock::new(|| PeerSecret::from_bytes(DEVICE).public());

/// Admission with one known host and an open enrolment, whose code the peer does not know.
#[derive(Default)]
struct Door {
    entered: Mutex<Vec<PeerKey>>,
    wrong_codes: AtomicU64,
}

impl Admission for Door {
    fn secret(&self) -> Option<PeerSecret> {
        Some(PeerSecret::from_bytes(DEVICE))
    }
    fn admits_plain(&self) -> bool {
        false
    }
    fn admits(&self, host: &PeerKey) -> Result<(), AccessRefusal> {
        if host == &*HOST {
            Ok(())
        } else {
            Err(AccessRefusal::UnknownHost)
        }
    }
    fn enrolment(&self) -> Option<[u8; 32]> {
        Some([9; 32])
    }
    fn enrol(&self, _: &PeerKey, _: &str) -> Result<(), AccessRefusal> {
        panic!("enrolled without the code")
    }
    fn wrong_code(&self) {
        self.wrong_codes.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, host: Option<&PeerKey>) -> Result<(), AccessRefusal> {
        self.entered
            .lock()
            .unwrap()
            .push(*host.expect("a plain session was admitted"));
        Ok(())
    }
}

#[derive(Arbitrary, Debug)]
enum Act<'a> {
    Raw(&'a [u8]),
    /// A frame of any kind, with an arbitrary head.
    Headed {
        kind: u8,
        session: u32,
        sequence: u32,
        message: &'a [u8],
    },
    /// The first message of a handshake, optionally with a flipped bit.
    First {
        known: bool,
        enrol: bool,
        session: u32,
        flip: Option<u16>,
    },
    /// The third message of an enrolment, by a peer with another code.
    Third {
        session: u32,
    },
    /// A body in the session that was established last.
    Sealed {
        body: &'a [u8],
        counter: u8,
        flip: Option<u16>,
    },
    /// The last frame again.
    Again,
}

/// State of the peers.
#[derive(Default)]
struct Peer {
    transport: Option<(StatelessTransportState, bool)>,
    enrolling: Option<snow::HandshakeState>,
    sent: u64,
    last: Vec<u8>,
}

fn headed(kind: u8, session: u32, sequence: u32, message: &[u8]) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(session.to_le_bytes());
    body.extend(sequence.to_le_bytes());
    body.extend(message);
    body
}

fn flipped(mut bytes: Vec<u8>, flip: Option<u16>) -> Vec<u8> {
    if let Some(at) = flip.map(usize::from)
        && bytes.len() > HEAD
    {
        let at = HEAD * 8 + at % ((bytes.len() - HEAD) * 8);
        bytes[at / 8] ^= 1 << (at % 8);
    }
    bytes
}

/// Returns the message in a reply, which must be a single valid frame.
fn unframed(reply: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::default();
    let (taken, event) = decoder.feed(&reply[1..]);
    assert_eq!((taken, event), (reply.len() - 1, Some(FrameEvent::Frame)));
    decoder.body()[HEAD..].to_vec()
}

fn initiator(secret: &[u8; 32], enrol: bool) -> snow::HandshakeState {
    let pattern = if enrol {
        "Noise_XXpsk3_25519_ChaChaPoly_SHA256"
    } else {
        "Noise_IK_25519_ChaChaPoly_SHA256"
    };
    let builder = Builder::new(pattern.parse().unwrap());
    let builder = builder.local_private_key(secret).unwrap().prologue(b"clr/2").unwrap();
    let builder = if enrol {
        builder.psk(3, &[8; 32]).unwrap()
    } else {
        builder.remote_public_key(&DEVICE_KEY.0).unwrap()
    };
    builder.build_initiator().unwrap()
}

fuzz_target!(|data: &[u8]| {
    let Ok(acts) = Vec::<Act<'_>>::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let (device, door) = (Keeping::default(), Door::default());
    let mut channel = Channel::new(&device, &door, SessionLimits::default());
    let mut peer = Peer::default();
    let mut honest = false;
    for act in acts.iter().take(24) {
        let body = match act {
            Act::Raw(bytes) => bytes.to_vec(),
            Act::Headed {
                kind,
                session,
                sequence,
                message,
            } => headed(b"QRNqr"[usize::from(*kind) % 5], *session, *sequence, message),
            Act::First {
                known,
                enrol,
                session,
                flip,
            } => {
                let mut state = initiator(if *known { &KNOWN } else { &STRANGER }, *enrol);
                let mut message = vec![0; 512];
                let length = state.write_message(&[], &mut message).unwrap();
                let step = u32::from_le_bytes([1, 1 + u8::from(*enrol), 0, 0]);
                let body = flipped(headed(b'N', *session, step, &message[..length]), *flip);
                let reply = channel.handle(&body).map(unframed);
                if let Some(reply) = reply
                    && state.read_message(&reply, &mut message).is_ok()
                {
                    if *enrol {
                        peer.enrolling = Some(state);
                    } else {
                        assert!(
                            *known && flip.is_none(),
                            "a handshake was answered that is not a known host's"
                        );
                        peer.transport = state
                            .into_stateless_transport_mode()
                            .ok()
                            .map(|transport| (transport, *known));
                        peer.sent = 0;
                    }
                }
                peer.last = body;
                continue;
            }
            Act::Third { session } => {
                let Some(mut state) = peer.enrolling.take() else {
                    continue;
                };
                let mut message = vec![0; 512];
                let Ok(length) = state.write_message(b"desk", &mut message) else {
                    continue;
                };
                headed(b'N', *session, u32::from_le_bytes([3, 2, 0, 0]), &message[..length])
            }
            Act::Sealed { body, counter, flip } => {
                let Some((transport, _)) = &peer.transport else {
                    continue;
                };
                let counter = if *counter < 200 {
                    peer.sent + 1
                } else {
                    u64::from(*counter - 200)
                };
                let mut message = vec![0; body.len() + 16];
                let Ok(length) = transport.write_message(counter, body, &mut message) else {
                    continue;
                };
                peer.sent = peer.sent.max(counter);
                honest |= flip.is_none();
                flipped(
                    headed(b'q', counter as u32, (counter >> 32) as u32, &message[..length]),
                    *flip,
                )
            }
            Act::Again => peer.last.clone(),
        };
        let before = device.acts();
        channel.handle(&body).map(unframed);
        let entered = door.entered.lock().unwrap();
        assert!(entered.iter().all(|host| host == &*HOST));
        assert!(
            honest || (entered.is_empty() && device.acts() == before),
            "something was carried out"
        );
        drop(entered);
        peer.last = body;
    }
});
