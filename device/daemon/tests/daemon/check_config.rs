//! `run --check-config` reports the same faults with the same messages as `run`, and leaves no trace on the disk.

use std::{
    fs,
    net::TcpListener,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use super::{
    device::{Device, TIMEOUT, free_port, publisher},
    http_client::http_get,
};

const FOLDER: &str = "[source]\nkind = 'directory'\npath = 'frames'\n";

fn check(device: &Device) -> (bool, String, String) {
    let Output { status, stdout, stderr } = device.command(&["run", "--check-config"]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

/// Returns the line of the error that ended a run, without colours and times.
fn error(stderr: &str) -> String {
    let line = stderr.lines().find(|line| line.starts_with("error: "));
    line.unwrap_or_else(|| panic!("no error: {stderr}")).to_owned()
}

fn same_error(what: &str, device: &Device, words: &str) {
    let (valid, _, checked) = check(device);
    assert!(!valid, "{what}: {checked}");
    let log = device.path("stderr");
    let mut child = device
        .command(&["run"])
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > TIMEOUT {
            child.kill().unwrap();
            panic!("{what}: it runs, though the check says {checked}");
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert!(!status.success(), "{what}");
    let ran = error(&fs::read_to_string(&log).unwrap());
    assert_eq!(error(&checked), ran, "{what}");
    assert!(ran.contains(words), "{what}: {ran}");
}

/// Asserts that the check reports a fault, whether or not that fault would end a run.
fn named(what: &str, device: &Device, words: &str) {
    let (_, stdout, stderr) = check(device);
    assert!(format!("{stdout}{stderr}").contains(words), "{what}: {stdout}{stderr}");
}

#[test]
fn a_fault_that_stops_a_run_stops_the_check_with_the_same_message() {
    let device = Device::new("");
    fs::remove_dir(device.path("frames")).unwrap();
    named("no watched folder", &device, "watch");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    for table in ["tcp", "http"] {
        let device = Device::new(&format!("[{table}]\nlisten = '{port}'\n"));
        same_error(table, &device, &port.to_string());
        assert!(check(&device).2.contains("hint: another program"), "{table}");
    }
    // No interface of this machine has this address (RFC 5737).
    let device = Device::new("[tcp]\nlisten = '192.0.2.1:7420'\n");
    same_error("a foreign address", &device, "192.0.2.1:7420");

    let device = Device::new(&format!("[control]\nsocket = '{}/control.sock'\n", "deep".repeat(30)));
    named("a long socket path", &device, "expected at most 107");
    let device = Device::new("[control]\nsocket = 'device.toml/control.sock'\n");
    named("a file as the socket's folder", &device, "cannot listen on socket");
    let device = Device::new("[serial]\nport = '/dev/no-such-line'\n");
    same_error("no serial line", &device, "/dev/no-such-line");

    let device = Device::new("[[trust.keys]]\nfile = 'fleet.pub'\n");
    same_error("no key", &device, "fleet.pub");
    fs::write(device.path("fleet.pub"), "no key").unwrap();
    same_error("not a key", &device, "fleet.pub");
    fs::write(device.path("fleet.pub"), b"\xff\xfee\0d\0").unwrap();
    same_error("a key in UTF-16", &device, "UTF-16");

    let device = Device::new("");
    fs::write(device.path("state"), "a file").unwrap();
    // A run continues without its state folder, as it does with a broken disk.
    named("a file in place of the state folder", &device, "cannot create folder");
    let device = Device::new("");
    let text = fs::read_to_string(device.path("device.toml")).unwrap();
    fs::write(device.path("broken.onnx"), "no network").unwrap();
    let backbone = super::device::backbone().1.display().to_string();
    fs::write(device.path("device.toml"), text.replace(&backbone, "broken.onnx")).unwrap();
    same_error("a broken backbone", &device, "broken.onnx");
}

#[test]
fn all_faults_are_reported_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let device = Device::new(&format!(
        "[tcp]\nlisten = '{port}'\n[serial]\nport = '/dev/no-such-line'\n[[trust.keys]]\nfile = 'no.pub'\n"
    ));
    let (valid, _, stderr) = check(&device);
    assert!(!valid);
    for words in ["no.pub", "no-such-line", &port.to_string()] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
}

#[test]
fn a_valid_configuration_is_checked_without_a_trace_before_and_after_the_first_start() {
    let (tcp, http) = (free_port(), free_port());
    let mut device = Device::new(&format!(
        "[tcp]\nlisten = '127.0.0.1:{tcp}'\n[http]\nlisten = '127.0.0.1:{http}'\n"
    ));
    let (valid, stdout, stderr) = check(&device);
    assert!(valid, "{stdout}{stderr}");
    assert!(!device.path("state").exists(), "a check makes no folder");
    device.start();
    device.stop();
    let (valid, stdout, stderr) = check(&device);
    assert!(valid && stdout.contains("state          "), "{stdout}{stderr}");
    assert!(!device.path("state/control.sock").exists(), "a check leaves no socket");
}

#[test]
fn a_running_device_is_reported_and_not_disturbed() {
    let (tcp, http) = (free_port(), free_port());
    let device = Device::with_birds(&format!(
        "[tcp]\nlisten = '127.0.0.1:{tcp}'\n[http]\nlisten = '127.0.0.1:{http}'\n"
    ));
    let (valid, stdout, stderr) = check(&device);
    assert!(valid, "{stdout}{stderr}");
    let pid = device.pid().as_raw_nonzero().to_string();
    assert!(stdout.contains(&format!("process {pid}")), "{stdout}");
    assert_eq!(device.status().active_task.as_deref(), Some("birds"));
    assert_eq!(http_get(http, "/healthz").0, 200);
}

#[test]
fn warnings_appear_in_the_check_and_at_every_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut device = Device::new("");
    device.configure(&format!("{FOLDER}[trust]\nunsigned = true\n"), &[]);
    fs::create_dir(device.path("state")).unwrap();
    fs::set_permissions(device.path("state"), fs::Permissions::from_mode(0o777)).unwrap();
    let (valid, stdout, stderr) = check(&device);
    assert!(valid, "{stdout}{stderr}");
    for _ in 0..2 {
        device.start();
        device.stop();
    }
    let log = device.log();
    for words in ["unsigned adapters are accepted", "can be written by others (mode 777)"] {
        assert!(stdout.contains(words), "{words}: {stdout}");
        assert_eq!(log.matches(words).count(), 2, "{words}: {log}");
    }
    device.configure(FOLDER, &[publisher()]);
    fs::set_permissions(device.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    let (_, stdout, _) = check(&device);
    assert!(!stdout.contains("unsigned") && !stdout.contains("mode"), "{stdout}");
}

#[test]
fn a_missing_configuration_has_a_hint() {
    let device = Device::new("");
    fs::remove_file(device.path("device.toml")).unwrap();
    let (valid, _, stderr) = check(&device);
    assert!(!valid && stderr.contains("hint: give its path"), "{stderr}");
}

#[test]
fn a_configuration_saved_by_a_windows_editor_means_the_same() {
    let mut device = Device::new("");
    let path = device.path("device.toml");
    fs::write(
        device.path("fleet.pub"),
        format!("\u{feff}{}\r\n", publisher().public()),
    )
    .unwrap();
    device.configure(&format!("{FOLDER}[[trust.keys]]\nfile = 'fleet.pub'\n"), &[]);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    let (valid, stdout, stderr) = check(&device);
    assert!(valid, "{stdout}{stderr}");
    device.start();
    device
        .push(&super::device::signed(&super::device::adapter("birds", 1)))
        .unwrap();

    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&path, utf16).unwrap();
    let (valid, _, stderr) = check(&device);
    assert!(
        !valid && stderr.contains("UTF-16") && stderr.contains("hint: save"),
        "{stderr}"
    );
}
