//! Encrypted sessions against an attacker on the line, who reads, alters, repeats and forges frames.

use std::{cell::RefCell, rc::Rc};

use clr_transfer::{
    AccessRefusal, Client, ClientError, ClientOptions, EnrolmentCode, Kind, LinkFault, PeerSecret, SECURE_VERSION,
    Security, encode_frame,
};

use crate::{
    door::{Door, Spoken},
    line::{AnyClient, Faults, Line, Proxy, Random, SimulatedClock, Way, Wire, limits, with_client_that},
    memory_device::MemoryDevice,
};

/// Runs a client over one kind of line, through a proxy that `proxy` creates for each connection.
fn through<'d, T>(
    device: &'d MemoryDevice,
    door: &'d Door,
    options: ClientOptions,
    mut proxy: impl FnMut(usize) -> Proxy<'d>,
    f: impl FnOnce(&mut dyn AnyClient) -> T,
) -> T {
    let clock = SimulatedClock::default();
    // The clock is leaked, because every line borrows it.
    let clock: &SimulatedClock = Box::leak(Box::new(clock));
    let mut connections = 0;
    let connect = || {
        let line = Line::secure(device, door, limits(1024), clock, Faults::default()).through(proxy(connections));
        connections += 1;
        Ok::<_, String>(Wire(Rc::new(RefCell::new(line))))
    };
    f(&mut Client::new(connect, clock, options))
}

pub(crate) fn honest<'d>() -> Proxy<'d> {
    Box::new(|_, frame| vec![frame.to_vec()])
}

/// Runs a client over one kind of line, and passes every frame to `tap` in transit.
fn tapped<'d, T>(
    device: &'d MemoryDevice,
    door: &'d Door,
    speaks: Spoken,
    tap: impl FnMut(Way, &[u8]) + 'd,
    f: impl FnOnce(&mut dyn AnyClient) -> T,
) -> T {
    let tap = Rc::new(RefCell::new(tap));
    let proxy = |_| -> Proxy<'d> {
        let tap = Rc::clone(&tap);
        Box::new(move |way, frame| {
            tap.borrow_mut()(way, frame);
            vec![frame.to_vec()]
        })
    };
    through(device, door, door.options(speaks), proxy, f)
}

/// The body of a frame.
pub(crate) fn body(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame[1..frame.len() - 1].to_vec();
    let length = cobs::decode_in_place(&mut bytes).unwrap();
    bytes.truncate(length - 4);
    bytes
}

/// Returns the frame of a body with a correct checksum, which an attacker can also compute.
pub(crate) fn framed(mut body: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(&mut body, &mut out);
    out
}

#[test]
fn a_session_of_known_keys_transfers_everything_encrypted() {
    for speaks in [Spoken::Known, Spoken::Enrol] {
        let (device, door) = (MemoryDevice::default(), Door::default());
        let file = b"not for everybody to read ".repeat(100);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let tap = Rc::clone(&seen);
        let pushed = tapped(
            &device,
            &door,
            speaks,
            move |_, frame| {
                tap.borrow_mut().extend(body(frame));
            },
            |client| client.push(&file, Kind::Adapter).unwrap(),
        );
        assert!(device.holds(&file) && pushed.repeated == 0);
        let seen = seen.borrow();
        for secret in [b"for everybody".as_slice(), b"memory", b"anna", b"clr-transfer"] {
            let found = seen.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{speaks:?}: {} is readable", String::from_utf8_lossy(secret));
        }
        assert_eq!(*door.entered.lock().unwrap(), [Some(door.host.public())]);
        assert_eq!(SECURE_VERSION, 2);
    }
}

#[test]
fn the_bytes_of_both_handshakes() {
    for (speaks, messages) in [(Spoken::Known, 144), (Spoken::Enrol, 208 + "anna".len())] {
        let (device, door) = (MemoryDevice::default(), Door::default());
        let total = Rc::new(RefCell::new((0, 0, 0)));
        let tap = Rc::clone(&total);
        tapped(
            &device,
            &door,
            speaks,
            move |_, frame| {
                let body = body(frame);
                let mut total = tap.borrow_mut();
                if body[0] == b'N' {
                    total.0 += body.len() - 9;
                    total.1 += frame.len();
                } else {
                    total.2 += frame.len();
                }
            },
            |client| client.status().unwrap(),
        );
        let (noise, frames, session) = *total.borrow();
        println!("{speaks:?}: {noise} bytes of Noise, {frames} in frames; hello and status then take {session}");
        assert_eq!(noise, messages);
    }
}

/// A flipped bit in a handshake makes it fail or be repeated. No session begins with another key, and no request is
/// executed twice.
#[test]
fn every_flipped_bit_of_a_handshake_is_noticed_and_the_next_one_succeeds() {
    for speaks in [Spoken::Known, Spoken::Enrol] {
        let mut lengths = Vec::new();
        {
            let (device, door) = (MemoryDevice::default(), Door::default());
            let seen = Rc::new(RefCell::new(Vec::new()));
            let tap = Rc::clone(&seen);
            tapped(
                &device,
                &door,
                speaks,
                move |_, frame| {
                    let body = body(frame);
                    if body[0] == b'N' {
                        tap.borrow_mut().push(body.len());
                    }
                },
                |client| client.status().unwrap(),
            );
            lengths.extend(seen.borrow().iter().copied());
        }
        assert_eq!(lengths.len(), if speaks == Spoken::Known { 2 } else { 3 });
        let (mut survived, mut prevented) = (0, 0);
        for (message, &length) in lengths.iter().enumerate() {
            for bit in (0..8 * length).step_by(if cfg!(miri) { 997 } else { 1 }) {
                let (device, door) = (MemoryDevice::with_task("birds", b"file"), Door::default());
                let answer = through(
                    &device,
                    &door,
                    door.options(speaks),
                    |connection| {
                        let mut at = 0;
                        Box::new(move |_, frame| {
                            let mut bytes = body(frame);
                            if bytes[0] == b'N' && connection == 0 {
                                if at == message {
                                    bytes[bit / 8] ^= 1 << (bit % 8);
                                }
                                at += 1;
                            }
                            vec![framed(bytes)]
                        })
                    },
                    |client| client.rollback("birds"),
                );
                let acts = device.0.lock().unwrap().acts.len();
                match answer {
                    Ok(()) => survived += 1,
                    Err(
                        ClientError::NotAdmitted(_)
                        | ClientError::Lost {
                            fault: LinkFault::Handshake | LinkFault::Silent,
                            ..
                        },
                    ) => prevented += 1,
                    Err(error) => panic!("{speaks:?}, message {message}, bit {bit}: {error}"),
                }
                assert_eq!(acts, usize::from(answer.is_ok()), "message {message}, bit {bit}");
                let entered = door.entered.lock().unwrap();
                assert!(entered.iter().all(|&host| host == Some(door.host.public())));
            }
        }
        println!("{speaks:?}: {survived} handshakes were repeated, {prevented} were prevented");
    }
}

#[test]
fn replaying_any_message_at_any_later_time_has_no_effect() {
    for speaks in [Spoken::Known, Spoken::Enrol] {
        for repeated in 0..14 {
            for later in 1..14 {
                let (device, door) = (MemoryDevice::with_task("birds", b"file"), Door::default());
                through(
                    &device,
                    &door,
                    door.options(speaks),
                    |_| {
                        let (mut at, mut kept) = (0, None);
                        Box::new(move |way, frame| {
                            let mut out = vec![frame.to_vec()];
                            if at == repeated {
                                kept = Some((way, frame.to_vec()));
                            }
                            if let Some((of, old)) = &kept
                                && at >= repeated + later
                                && *of == way
                            {
                                // Replays an old frame after and before the current one.
                                out.push(old.clone());
                                out.insert(0, old.clone());
                                kept = None;
                            }
                            at += 1;
                            out
                        })
                    },
                    |client| {
                        client.rollback("birds").unwrap();
                        client.rollback("birds").unwrap();
                        client.status().unwrap();
                        client.rollback("birds").unwrap();
                    },
                );
                let acts = device.0.lock().unwrap().acts.len();
                assert_eq!(acts, 3, "{speaks:?}: frame {repeated} again {later} later");
            }
        }
    }
}

#[test]
fn replaying_a_recorded_session_executes_nothing() {
    for speaks in [Spoken::Known, Spoken::Enrol] {
        let (device, door) = (MemoryDevice::with_task("birds", b"file"), Door::default());
        let recorded = Rc::new(RefCell::new(Vec::new()));
        let tap = Rc::clone(&recorded);
        tapped(
            &device,
            &door,
            speaks,
            move |way, frame| {
                if way == Way::ToDevice {
                    tap.borrow_mut().extend(frame);
                }
            },
            |client| client.rollback("birds").unwrap(),
        );
        let clock = SimulatedClock::default();
        let mut line = Line::secure(&device, &door, limits(1024), &clock, Faults::default());
        line.send_to_device(&recorded.borrow());
        assert_eq!(device.0.lock().unwrap().acts.len(), 1, "{speaks:?}");
        assert_eq!(door.entered.lock().unwrap().len(), 1, "{speaks:?}");
    }
}

#[test]
fn forged_frames_neither_end_a_session_nor_advance_its_counter() {
    let (device, door) = (MemoryDevice::with_task("birds", b"file"), Door::default());
    through(
        &device,
        &door,
        door.options(Spoken::Known),
        |_| {
            let mut random = Random(3);
            Box::new(move |way, frame| {
                let direction = if way == Way::ToDevice { b'q' } else { b'r' };
                let mut high = vec![direction];
                high.extend(u64::MAX.to_le_bytes());
                high.extend(random.bytes(40));
                let mut next = vec![direction];
                next.extend(9_u64.to_le_bytes());
                next.extend(random.bytes(16));
                let mut plain = vec![b'Q', 1, 0, 0, 0, 9, 0, 0, 0];
                // Rollback "birds", without a session.
                plain.extend([8, 5]);
                plain.extend(b"birds");
                let mut out = vec![framed(high), framed(next), frame.to_vec()];
                if way == Way::ToDevice {
                    out.push(framed(plain));
                }
                out
            })
        },
        |client| {
            for _ in 0..10 {
                client.rollback("birds").unwrap();
            }
        },
    );
    assert_eq!(device.0.lock().unwrap().acts.len(), 10);
}

#[test]
fn an_unknown_host_is_refused_with_the_reason() {
    let (device, door) = (MemoryDevice::with_task("birds", b"file"), Door::default());
    let stranger = PeerSecret::from_bytes([9; 32]);
    let known = |secret: &PeerSecret, device: &PeerSecret| Security::Known {
        secret: secret.clone(),
        device: device.public(),
    };
    let enrol = |code: [u8; 20]| Security::Enrol {
        secret: stranger.clone(),
        code: EnrolmentCode::from_random(code),
        name: "eve".into(),
    };
    for (security, expected) in [
        (known(&stranger, &door.secret), AccessRefusal::UnknownHost),
        (known(&door.host, &stranger), AccessRefusal::WrongKey),
        (enrol([8; 20]), AccessRefusal::WrongCode),
    ] {
        let options = ClientOptions::default().with_security(security);
        let answer = through(&device, &door, options, |_| honest(), |client| client.rollback("birds"));
        assert_eq!(answer, Err(ClientError::NotAdmitted(expected)));
        assert!(answer.unwrap_err().to_string().contains("hint: "));
    }
    let plain = through(
        &device,
        &door,
        ClientOptions::default(),
        |_| honest(),
        |client| client.rollback("birds"),
    );
    let Err(ClientError::Refused(failure)) = plain else {
        panic!("{plain:?}")
    };
    assert_eq!(failure.code, clr_transfer::FailureCode::UNAUTHENTICATED);
    assert_eq!(*door.wrong.lock().unwrap(), 1, "a wrong code is counted once");
    assert!(device.0.lock().unwrap().acts.is_empty() && door.entered.lock().unwrap().is_empty());
}

#[test]
fn an_enrolled_host_is_known_afterwards() {
    let (device, door) = (MemoryDevice::with_task("birds", b"file"), Door::default());
    door.known.lock().unwrap().clear();
    let ask = |speaks| {
        through(
            &device,
            &door,
            door.options(speaks),
            |_| honest(),
            |client| client.rollback("birds"),
        )
    };
    assert_eq!(
        ask(Spoken::Known),
        Err(ClientError::NotAdmitted(AccessRefusal::UnknownHost))
    );
    ask(Spoken::Enrol).unwrap();
    ask(Spoken::Known).unwrap();
    assert_eq!(*door.enrolled.lock().unwrap(), ["anna"]);
}

#[test]
fn the_largest_chunk_and_list_fit_a_sealed_frame() {
    let file = Random(1).bytes(if cfg!(miri) { 70_000 } else { 300_000 });
    let device = MemoryDevice::default();
    for task in 0..if cfg!(miri) { 3 } else { 400 } {
        let digest = clr_transfer::Digest([task as u8; 32]);
        let name = format!("{task:03}{}", "x".repeat(120));
        device.0.lock().unwrap().tasks.insert(name, digest);
    }
    with_client_that(
        Spoken::Known,
        &device,
        u32::MAX,
        |_| Faults::default(),
        |client| {
            let pushed = client.push(&file, Kind::Adapter).unwrap();
            assert_eq!((pushed.repeated, pushed.connections), (0, 1), "{pushed:?}");
            assert!(pushed.chunks as usize <= file.len() / 65_024 + 1, "{pushed:?}");
            assert!(client.list().unwrap().len() >= 4);
            assert_eq!(client.pull("birds").unwrap().bytes, file);
        },
    );
}
