//! `clr push`, `clr pull` and `clr device` with a device, over TCP and over a Unix socket.

use std::{net::TcpListener, os::unix::net::UnixListener, path::Path};

use clr_adapters::{Encoding, Recipe, decode, encode};
use clr_transfer::{Link, ServeLimits, SystemClock, serve};
use serde_json::Value;

use crate::{
    fixtures::{clr, lite0, random_adapter},
    promises::check_document,
};

#[expect(dead_code, reason = "the crate's own tests use all of it")]
#[path = "../../adapters/transfer/tests/memory_device.rs"]
pub(crate) mod memory_device;
use memory_device::MemoryDevice;

fn json(arguments: &[&str], folder: &Path) -> Value {
    let output = clr()
        .args(arguments)
        .arg("--json")
        .current_dir(folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Serves `connections` connections in sequence while `host` runs.
fn with_device(device: &MemoryDevice, connections: usize, host: impl FnOnce(&str)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("tcp:{}", listener.local_addr().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..connections {
                let mut link = Link::tcp(listener.accept().unwrap().0).unwrap();
                serve(&mut link, device, &SystemClock::new(), &ServeLimits::default()).unwrap();
            }
        });
        host(&place);
    });
}

fn device_for_lite0() -> MemoryDevice {
    let device = MemoryDevice::default();
    device.0.lock().unwrap().backbone = Some(lite0().digest());
    device
}

#[test]
fn a_new_version_is_sent_as_a_delta_from_the_file_next_to_it_and_arrives_intact() {
    let folder = tempfile::tempdir().unwrap();
    let mut adapter = random_adapter(lite0(), Recipe::Clr, "birds", 4, 1);
    let first = encode(&adapter, Encoding::Int8).unwrap();
    adapter = decode(&first).unwrap().adapter;
    adapter.header.version = 2;
    adapter.head.weight.iter_mut().for_each(|weight| *weight *= 1.05);
    let second = encode(&adapter, Encoding::Int8).unwrap();
    for (name, bytes) in [("birds-1.clr", &first), ("birds-2.clr", &second)] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let device = device_for_lite0();
    with_device(&device, 9, |place| {
        let here = folder.path();
        let pushed = json(&["push", "birds-1.clr", "--to", place], here);
        assert_eq!(pushed["schema"], "clr.push/1");
        assert_eq!(pushed["files"][0]["sent"], first.len());
        assert!(pushed["files"][0]["base"].is_null());
        let again = json(&["push", "birds-1.clr", "--to", place, "--whole"], here);
        assert_eq!(again["files"][0]["sent"], 0, "the device already has the complete file");

        let pushed = json(&["push", "birds-2.clr", "--to", place], here);
        let row = &pushed["files"][0];
        assert!(row["base"].as_str().unwrap().ends_with("birds-1.clr"), "{row}");
        assert_eq!(row["version"], 2);
        check_document("push", &pushed);
        assert!(row["sent"].as_u64().unwrap() < second.len() as u64 / 5, "{row}");
        assert!(device.holds(&second));

        let pulled = json(&["pull", "birds", "--from", place, "-o", "back.clr"], here);
        assert_eq!(pulled["version"], 2);
        check_document("pull", &pulled);
        assert_eq!(std::fs::read(here.join("back.clr")).unwrap(), second);

        let switched = json(&["device", "switch", "birds", "--at", place], here);
        check_document("device-switch", &switched);
        let status = json(&["device", "status", "--at", place], here);
        assert_eq!(status["active_task"], "birds");
        check_document("device-status", &status);
        let listed = json(&["device", "--at", place, "list"], here);
        assert_eq!(listed["tasks"][0]["task"], "birds");
        check_document("device-list", &listed);
        let text = clr().args(["device", "list", "--at", place]).output().unwrap();
        assert!(String::from_utf8_lossy(&text.stdout).contains("birds *"));

        let refused = clr()
            .args(["device", "rollback", "cats", "--at", place])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(6), "{stderr}");
        assert!(
            stderr.contains("no task 'cats'") && stderr.contains("hint: "),
            "{stderr}"
        );
    });
}

#[test]
fn pushes_to_the_wrong_device_and_to_no_device_have_distinct_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let file = encode(&random_adapter(lite0(), Recipe::Linear, "birds", 2, 1), Encoding::Int8).unwrap();
    std::fs::write(folder.path().join("birds.clr"), file).unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let place = format!("unix:{}", path.display());
    let device = MemoryDevice::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut link = Link::unix(listener.accept().unwrap().0).unwrap();
            serve(&mut link, &device, &SystemClock::new(), &ServeLimits::default()).unwrap();
        });
        let push = ["push", "birds.clr", "--to", &place];
        let output = clr().args(push).current_dir(folder.path()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("backbone"), "{stderr}");
    });
    let nobody = clr()
        .args(["device", "status", "--at", "unix:/nonexistent/socket"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("cannot connect: unix:/nonexistent/socket"), "{stderr}");
    let usage = clr().args(["device", "status", "--at", "robot"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_signed_file_is_announced_and_also_reaches_older_devices() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mut adapter = random_adapter(lite0(), Recipe::Linear, "birds", 4, 1);
    std::fs::write(here.join("plain-1.clr"), encode(&adapter, Encoding::Int8).unwrap()).unwrap();
    adapter.header.version = 2;
    adapter.header.labels[0] = "wren".into();
    std::fs::write(here.join("plain-2.clr"), encode(&adapter, Encoding::Int8).unwrap()).unwrap();
    json(&["keygen", "-o", "fleet"], here);
    for number in ["1", "2"] {
        let (from, to) = (format!("plain-{number}.clr"), format!("birds-{number}.clr"));
        let audience = ["--audience", "fleet-a", "--audience", "gate-*"];
        let mut sign = vec!["sign", "--key", "fleet.key", &from, "-o", &to];
        sign.extend(audience);
        let signed = json(&sign, here);
        assert_eq!(signed["files"][0]["audience"], serde_json::json!(["fleet-a", "gate-*"]));
    }
    let inspected = json(&["inspect", "birds-1.clr"], here);
    assert_eq!(inspected["release"]["audience"][1], "gate-*");
    for (names, code) in [(&["gate-7"][..], 0), (&["fleet-b", "north"], 1), (&[], 0)] {
        let mut verify = vec!["verify", "--key", "fleet.pub", "birds-1.clr"];
        for name in names {
            verify.extend(["--audience", name]);
        }
        let output = clr().args(verify).current_dir(here).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{names:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("fleet-a") && text.contains("gate-*"), "{text}");
    }
    for old in [false, true] {
        let device = device_for_lite0();
        device.0.lock().unwrap().old = old;
        with_device(&device, 2, |place| {
            let whole = json(&["push", "birds-1.clr", "--to", place], here);
            assert!(whole["files"][0]["base"].is_null());
            let difference = json(&["push", "birds-2.clr", "--to", place], here);
            assert!(difference["files"][0]["base"].is_string(), "{difference}");
        });
        let kept = device.0.lock().unwrap();
        assert_eq!(kept.announced, if old { 0 } else { 2 });
        assert!(kept.files.contains_key(&clr_adapters::Digest::of(
            &std::fs::read(here.join("birds-2.clr")).unwrap()
        )));
    }
}
