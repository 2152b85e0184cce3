//! Rotation of a device's key: a host accepts the next key once, announced under the old key, and no other.

use std::{cell::RefCell, rc::Rc};

use clr_transfer::{AccessRefusal, Client, ClientError, ClientOptions, LinkFault, PeerKey, PeerSecret, Security};

use crate::{
    door::{Door, Spoken},
    line::{Faults, Line, Proxy, SimulatedClock, Way, Wire, limits},
    memory_device::MemoryDevice,
    secure::{body, framed, honest},
};

/// Requests the status this many times, each on a new connection. Returns the last reply and the accepted keys.
fn ask(
    door: &Door,
    options: ClientOptions,
    times: usize,
    mut proxy: impl FnMut(usize) -> Proxy<'static>,
) -> (Result<(), ClientError>, Vec<PeerKey>) {
    let device = MemoryDevice::default();
    let followed = RefCell::new(Vec::new());
    let mut answer = Ok(());
    for _ in 0..times {
        let clock = SimulatedClock::default();
        let mut options = options.clone();
        if let (Security::Known { device, .. }, Some(&key)) = (&mut options.security, followed.borrow().last()) {
            *device = key;
        }
        let mut connections = 0;
        let connect = || {
            let line = Line::secure(&device, door, limits(1024), &clock, Faults::default()).through(proxy(connections));
            connections += 1;
            Ok::<_, String>(Wire(Rc::new(RefCell::new(line))))
        };
        let mut client = Client::new(connect, &clock, options);
        client.on_successor(|key| followed.borrow_mut().push(key));
        answer = client.status().map(|_| ());
    }
    (answer, followed.into_inner())
}

#[test]
fn a_host_accepts_the_new_key_once() {
    let (door, options) = Door::rotated();
    let (answer, followed) = ask(&door, options, 3, |_| honest());
    assert_eq!((answer, followed), (Ok(()), vec![door.secret.public()]));
    let announced = door.announced.lock().unwrap();
    assert_eq!(
        *announced,
        [door.host.public()],
        "one session of three was made by the old key"
    );
}

#[test]
fn a_host_that_knows_the_new_key_or_enrols_gets_no_announcement() {
    let (door, _) = Door::rotated();
    for speaks in [Spoken::Known, Spoken::Enrol] {
        assert_eq!(ask(&door, door.options(speaks), 2, |_| honest()), (Ok(()), Vec::new()));
    }
}

#[test]
fn a_dropped_or_unknown_key_is_refused() {
    let (mut door, options) = Door::rotated();
    let stranger = Security::Known {
        secret: door.host.clone(),
        device: PeerSecret::from_bytes([9; 32]).public(),
    };
    let refused = (Err(ClientError::NotAdmitted(AccessRefusal::WrongKey)), Vec::new());
    let of_stranger = options.clone().with_security(stranger);
    assert_eq!(ask(&door, of_stranger, 1, |_| honest()), refused);
    door.old = None;
    assert_eq!(ask(&door, options, 1, |_| honest()), refused);
}

/// The attacker does not have the old key. It alters the announcement, replays an earlier one, or replies with its own
/// handshake.
#[test]
fn without_the_old_key_an_attacker_cannot_announce_a_successor() {
    let (door, options) = Door::rotated();
    let announcement = Rc::new(RefCell::new(Vec::new()));
    let tap = Rc::clone(&announcement);
    let record = move |_| -> Proxy<'static> {
        let tap = Rc::clone(&tap);
        Box::new(move |way, frame| {
            let body = body(frame);
            if way == Way::ToHost && body[0] == b'N' {
                *tap.borrow_mut() = body;
            }
            vec![frame.to_vec()]
        })
    };
    ask(&door, options.clone(), 1, record).0.unwrap();
    let recorded = announcement.borrow().clone();
    assert_eq!(recorded.len(), 9 + 48 + 32);

    let replaced = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = recorded.clone();
        change(&mut changed);
        let forge = move |_| -> Proxy<'static> {
            let changed = changed.clone();
            Box::new(move |way, frame| {
                let mut bytes = body(frame);
                if way == Way::ToHost && bytes[0] == b'N' {
                    // Keeps the head of the current session and replaces the rest.
                    bytes.splice(9.., changed[9..].iter().copied());
                }
                vec![framed(bytes)]
            })
        };
        let options = options.clone().with_attempts(1);
        ask(&door, options, 1, forge)
    };
    let noticed = ClientError::Lost {
        attempts: 1,
        fault: LinkFault::Handshake,
    };
    assert_eq!(
        replaced(&|_| {}),
        (Err(noticed.clone()), Vec::new()),
        "of an earlier session"
    );
    assert_eq!(
        replaced(&|bytes| bytes.truncate(9 + 48)),
        (Err(noticed), Vec::new()),
        "cut"
    );

    for bit in (0..8 * (recorded.len() - 9)).step_by(if cfg!(miri) { 97 } else { 1 }) {
        let flip = move |_| -> Proxy<'static> {
            Box::new(move |way, frame| {
                let mut bytes = body(frame);
                if way == Way::ToHost && bytes[0] == b'N' {
                    bytes[9 + bit / 8] ^= 1 << (bit % 8);
                }
                vec![framed(bytes)]
            })
        };
        let options = options.clone().with_attempts(1);
        let (answer, followed) = ask(&door, options, 1, flip);
        // X25519 ignores the highest bit of a key, but the handshake's hash covers it.
        assert!(answer.is_err() && followed.is_empty(), "bit {bit}: {answer:?}");
    }

    // A man in the middle with the same name and another key, which it would announce.
    let mut between = Door::rotated().0;
    between.old = Some(PeerSecret::from_bytes([8; 32]));
    let (answer, followed) = ask(&between, options, 1, |_| honest());
    assert_eq!(answer, Err(ClientError::NotAdmitted(AccessRefusal::WrongKey)));
    assert!(followed.is_empty());
}
