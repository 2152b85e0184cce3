//! Rotation of the session key: it needs no restart, no host is locked out, and a stolen key stops working.

use std::{cell::Cell, fs};

use clr_transfer::{AccessRefusal, ClientError, FailureCode, KeyRotation, PeerKey, PeerSecret, SystemClock};

use super::{
    device::{Device, adapter, image, signed},
    peers::{Host, code, enrolling, on_tcp, start, until},
};

/// Runs `clr-device` on the device. Returns the keys that it prints.
fn command(device: &Device, arguments: &[&str]) -> KeyRotation {
    let output = device.command(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    if arguments == ["rotate-key"] {
        crate::promises::check_document(
            "clr-device-rotate-key",
            &serde_json::from_slice(&output.stdout).unwrap(),
        );
    }
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Queries the status over a new connection. Returns the announced key, which the host stores.
fn visit(host: &mut Host, endpoint: &clr_transfer::Endpoint) -> Result<Option<PeerKey>, ClientError> {
    let told = Cell::new(None);
    let clock = SystemClock::new();
    let mut client = endpoint.client(&clock, host.options(endpoint));
    client.on_successor(|key| told.set(Some(key)));
    client.status()?;
    drop(client);
    if let Some(key) = told.get() {
        host.device = key;
    }
    Ok(told.get())
}

#[test]
fn every_host_follows_a_rotated_key_once_and_others_are_refused() {
    let (mut device, endpoint, _) = on_tcp("");
    start(&mut device, &endpoint);
    let mut anna = Host::enrol(&device, &endpoint, "administer", 1);
    let mut bert = Host::enrol(&device, &endpoint, "update", 2);
    let before = anna.device;
    let clock = SystemClock::new();
    let mut session = endpoint.client(&clock, bert.options(&endpoint));
    session.status().unwrap();

    let rotation = command(&device, &["rotate-key"]);
    let new: PeerKey = rotation.key.parse().unwrap();
    assert_eq!(rotation.old, Some(before.to_string()));
    let days = rotation.seconds.div_ceil(24 * 3_600);
    assert_eq!(days, 90);
    assert_ne!(new, before);
    session.status().expect("open sessions continue");

    // Each host learns the new key exactly once, also across a restart.
    assert_eq!(visit(&mut anna, &endpoint), Ok(Some(new)));
    assert_eq!(visit(&mut anna, &endpoint), Ok(None));
    device.kill();
    start(&mut device, &endpoint);
    let mut late = Host { device: before, ..bert };
    until("the device refuses every host", || {
        late.ask(&endpoint, |client| client.status()).is_ok()
    });
    assert_eq!(visit(&mut late, &endpoint), Ok(Some(new)));
    assert_eq!(visit(&mut late, &endpoint), Ok(None));
    bert = late;
    device.wait_for_log(&["host received the device's new key", "host-2"]);
    let mut wrong = Host {
        secret: anna.secret.clone(),
        device: PeerSecret::from_bytes([9; 32]).public(),
    };
    assert_eq!(
        visit(&mut wrong, &endpoint),
        Err(ClientError::NotAdmitted(AccessRefusal::WrongKey))
    );

    // A second rotation would lock out hosts that have not connected since the first one, so it is refused without
    // `--drop-old`.
    let refused = anna.ask(&endpoint, |client| client.rotate_key(false)).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("90 more days") && text.contains("hint: `clr-device rotate-key --drop-old`"),
        "{text}"
    );
    let refused = bert.ask(&endpoint, |client| client.rotate_key(true)).unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(failure) if failure.code == FailureCode::NOT_ALLOWED),
        "{refused}"
    );
    let dropped = command(&device, &["rotate-key", "--drop-old"]);
    assert_eq!((dropped.key, dropped.old, dropped.seconds), (new.to_string(), None, 0));
    let mut missed = Host {
        secret: bert.secret.clone(),
        device: before,
    };
    let refused = visit(&mut missed, &endpoint).unwrap_err();
    assert_eq!(refused, ClientError::NotAdmitted(AccessRefusal::WrongKey));
    assert!(
        refused.to_string().contains("hint: ") && refused.to_string().contains("forget"),
        "{refused}"
    );
    assert_eq!(visit(&mut bert, &endpoint), Ok(None));

    // A host that rotates the key over a session learns the new key immediately, on the same connection.
    let told = Cell::new(None);
    let mut client = endpoint.client(&clock, anna.options(&endpoint));
    client.on_successor(|key| told.set(Some(key)));
    let rotation = client.rotate_key(false).unwrap();
    assert_eq!(told.get().map(|key: PeerKey| key.to_string()), Some(rotation.key));
    client.rotate_key(true).unwrap();
    drop(client);
    anna.device = told.get().unwrap();
    assert_eq!(visit(&mut anna, &endpoint), Ok(None));

    // A new host learns the current key.
    let carl = PeerSecret::from_bytes([3; 32]);
    let options = enrolling(&endpoint, &carl, &code(&device, "observe"), "carl");
    let mut client = endpoint.client(&clock, options);
    client.device().unwrap();
    assert_eq!(client.device_key(), Some(anna.device));

    let audit = fs::read_to_string(device.path("state/audit/0.jsonl")).unwrap();
    let user = format!("\"peer\":\"local:{}\"", rustix::process::getuid().as_raw());
    for parts in [
        [user.as_str(), "\"command\":\"rotate-key\"", "\"result\":\"done\""],
        [user.as_str(), "\"command\":\"drop-old-key\"", "\"result\":\"done\""],
        [
            "\"peer\":\"host-1\"",
            "\"command\":\"rotate-key\"",
            "\"result\":\"done\"",
        ],
        [
            "\"peer\":\"host-2\"",
            "\"command\":\"drop-old-key\"",
            "\"result\":\"not-allowed\"",
        ],
    ] {
        let found = audit.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?} in no line of\n{audit}");
    }
}

#[test]
fn a_damaged_old_key_costs_only_the_hosts_that_have_not_followed() {
    let (mut device, endpoint, _) = on_tcp("");
    start(&mut device, &endpoint);
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    let mut anna = Host::enrol(&device, &endpoint, "update", 1);
    let mut late = Host {
        secret: anna.secret.clone(),
        device: anna.device,
    };
    command(&device, &["rotate-key"]);
    visit(&mut anna, &endpoint).unwrap();
    device.stop();
    let path = device.path("state/session.key");
    let sound = fs::read_to_string(&path).unwrap();
    let old = sound.lines().nth(2).unwrap();
    for damaged in [&old[..old.len() - 9], "old", "\u{7}", &old.replacen('0', "1", 1)] {
        fs::write(&path, sound.replace(old, damaged)).unwrap();
        start(&mut device, &endpoint);
        device.switch("birds");
        assert_eq!(device.ask(&image(1))["task"], "birds");
        assert_eq!(visit(&mut anna, &endpoint), Ok(None));
        let refused = visit(&mut late, &endpoint);
        assert_eq!(
            refused,
            Err(ClientError::NotAdmitted(AccessRefusal::WrongKey)),
            "{damaged:?}"
        );
        device.stop();
        assert!(
            device.log().contains("is damaged: hosts that do not know the new one"),
            "{}",
            device.log()
        );
        fs::remove_file(device.path("log")).unwrap();
    }
    fs::write(&path, &sound).unwrap();
    start(&mut device, &endpoint);
    assert_eq!(visit(&mut late, &endpoint), Ok(Some(anna.device)));
}

#[test]
fn a_device_without_sessions_has_no_key_to_rotate() {
    let mut device = Device::new("");
    device.start();
    let refused = device.host(|client| client.rotate_key(false)).unwrap_err();
    assert!(refused.to_string().contains("hint: set `[tcp] listen`"), "{refused}");
}
