//! Adverse conditions: a slow peer, a full disk, a serial line.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use clr_transfer::{ClientError, Endpoint, FailureCode, Kind, SystemClock};
use rustix::{
    process::{Resource, Rlimit, prlimit},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use super::{
    device::{Device, TIMEOUT, adapter, image, signed},
    peers::Host,
};

#[test]
fn a_peer_that_sends_a_byte_per_second_is_dropped_at_its_deadline_and_delays_nothing() {
    let mut device = Device::with_birds("");
    let before = device.ask(&image(1));
    let mut slow = UnixStream::connect(device.path("state/control.sock")).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let started = Instant::now();
    loop {
        // Sends the first bytes of a frame that never ends.
        if slow.write_all(&[7]).is_err() {
            break;
        }
        assert_eq!(device.ask(&image(1))["top"], before["top"]);
        assert_eq!(device.status().active_task.as_deref(), Some("birds"));
        match slow.read(&mut [0; 64]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => assert!(
                [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
                "{error}"
            ),
        }
        assert!(started.elapsed() < TIMEOUT, "it is served still\n{}", device.log());
    }
    // A frame may take ten seconds from its first byte to its last.
    assert!(started.elapsed() > Duration::from_secs(9));
    assert!(device.log().contains("connection dropped"), "{}", device.log());
}

/// A limit on file sizes simulates a full disk. Without a handler for SIGXFSZ it would end the process. A failed write
/// to the log would end the thread.
#[test]
fn a_full_disk_only_prevents_the_update() {
    let mut device = Device::with_tasks(&["birds", "fish"], "");
    let limit = |device: &Device, most| {
        let limit = Rlimit {
            current: most,
            maximum: None,
        };
        prlimit(Some(device.pid()), Resource::Fsize, limit).unwrap();
    };
    limit(&device, Some(0));
    // The switch takes effect, but cannot be persisted yet.
    let not_persisted = device.host(|client| client.switch("fish")).unwrap_err().to_string();
    assert!(not_persisted.contains("File too large"), "{not_persisted}");
    assert_eq!(device.ask(&image(1))["task"], "fish");
    let refused = device.push(&signed(&adapter("fish", 2))).unwrap_err();
    let ClientError::Refused(failure) = &refused else {
        panic!("{refused}")
    };
    assert_eq!(failure.code, FailureCode::STORAGE, "{failure}");
    assert!(failure.to_string().contains("File too large"), "{failure}");
    assert_eq!(device.ask(&image(1))["version"], 1);
    limit(&device, None);
    device.push(&signed(&adapter("fish", 2))).unwrap();
    assert_eq!(device.ask(&image(1))["version"], 2);
    device.stop();
    let sound = device.command(&["verify"]).output().unwrap();
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));
    // The shutdown persisted the choice.
    device.start();
    assert_eq!(device.ask(&image(1))["task"], "fish");
}

/// Returns a pseudo-terminal: one open end, and the path of the other.
fn terminal() -> (File, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    (File::from(master), name)
}

/// Copies bytes from one end to the other, like a cable.
fn carry(from: &File, to: &File) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
}

#[test]
fn a_host_at_the_other_end_of_a_serial_line_updates_and_switches_the_device() {
    let (near, device_end) = terminal();
    let (far, host_end) = terminal();
    // Kept open, so that the line does not hang up between two sessions.
    let _held = [&device_end, &host_end].map(|name| File::options().read(true).write(true).open(name).unwrap());
    carry(&near, &far);
    carry(&far, &near);
    let mut device = Device::new(&format!("[serial]\nport = '{device_end}'\nbaud = 921600\n"));
    device.start();
    let endpoint: Endpoint = format!("serial:{host_end}@921600").parse().unwrap();
    let clock = SystemClock::new();
    let file = signed(&adapter("birds", 1));
    // No host is known yet, and a serial line does not identify its peer.
    let plain = endpoint.client(&clock, endpoint.options()).status().unwrap_err();
    let ClientError::Refused(failure) = &plain else {
        panic!("{plain}")
    };
    assert_eq!(failure.code, FailureCode::UNAUTHENTICATED);
    let anna = Host::enrol(&device, &endpoint, "update,operate", 1);
    {
        let mut client = endpoint.client(&clock, anna.options(&endpoint));
        client.push(&file, Kind::Adapter, &mut |_| {}).unwrap();
        client.switch("birds").unwrap();
    }
    assert_eq!(device.ask(&image(1))["task"], "birds");
    // Noise on the line, then another host. The device has not hung up in between.
    (&far).write_all(&[0x55; 3000]).unwrap();
    let second = Host::enrol(&device, &endpoint, "update", 2);
    let mut second = endpoint.client(&clock, second.options(&endpoint));
    assert_eq!(second.status().unwrap().active_task.as_deref(), Some("birds"));
    let pulled = second
        .pull("birds", clr_transfer::Slot::Serving, 1 << 20, &mut |_| {})
        .unwrap();
    assert!(pulled.bytes == file);
}
