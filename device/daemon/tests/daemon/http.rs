//! The HTTP port: hostile and stalled peers lose their connection. Frames, updates and the port itself are not
//! affected.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use super::{
    device::{Device, TIMEOUT, adapter, free_port, image, signed},
    http_client::http_get,
};

fn device_with_http(extra: &str) -> (Device, u16) {
    let port = free_port();
    let device = Device::with_birds(&format!("[http]\nlisten = '127.0.0.1:{port}'\n{extra}"));
    (device, port)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Reads until the device disconnects.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn answer(port: u16, request: &[u8]) -> String {
    let mut stream = connect(port);
    // The device may disconnect meanwhile.
    let _ = stream.write_all(request);
    rest(&stream)
}

/// Waits until `/healthz` returns 200, because the slots of ended connections become free a moment later.
fn wait_for_health(port: u16) {
    let started = Instant::now();
    while !answer(port, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200") {
        assert!(started.elapsed() < TIMEOUT, "the port does not answer");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn stated_lengths_are_never_trusted_and_the_port_survives() {
    let (mut device, port) = device_with_http("");
    for (length, expected) in [
        ("40000000000", "413"),
        ("1000000000000", "413"),
        ("18446744073709551615", "4"),
        ("18446744073709551616", "400"),
        ("5\r\nTransfer-Encoding: chunked", "400"),
    ] {
        let request = format!("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let got = answer(port, request.as_bytes());
        assert!(got.starts_with(&format!("HTTP/1.1 {expected}")), "{length}: {got}");
        assert_eq!(http_get(port, "/healthz").0, 200, "{length}");
    }
    let head = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(100_000));
    assert!(answer(port, head.as_bytes()).starts_with("HTTP/1.1 431"));
    assert_eq!(device.ask(&image(1))["task"], "birds");
    device.stop();
}

#[test]
fn peers_that_send_slowly_or_nothing_are_dropped_at_their_deadlines() {
    let (device, port) = device_with_http("");
    let silent = connect(port);
    let mut half_a_head = connect(port);
    half_a_head.write_all(b"GET /metrics HTTP/1.1\r\nHost").unwrap();
    let mut half_a_body = connect(port);
    half_a_body
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234")
        .unwrap();
    let mut dripped = connect(port);
    let drip = thread::spawn(move || {
        dripped.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
        let started = Instant::now();
        while dripped.write_all(b"a").is_ok() {
            assert!(started.elapsed() < TIMEOUT, "a dripped head is never dropped");
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(http_get(port, "/healthz").0, 200, "meanwhile");
    assert_eq!(rest(&silent), "");
    assert_eq!(rest(&half_a_head), "");
    let told = rest(&half_a_body);
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    drip.join().unwrap();
    assert_eq!(http_get(port, "/healthz").0, 200);
    device.status();
}

#[test]
fn idle_connections_beyond_the_cap_are_refused_without_effect_on_updates_and_frames() {
    let (mut device, port) = device_with_http("connections = 6\n");
    let mut held: Vec<TcpStream> = (0..60).map(|_| connect(port)).collect();
    for stream in &mut held {
        // Connections that were refused are already closed.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
    }
    assert_eq!(device.ask(&image(1))["task"], "birds");
    device.push(&signed(&adapter("birds", 2))).unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", device.pid().as_raw_nonzero()));
    let descriptors = descriptors.unwrap().count();
    assert!(descriptors < 50, "{descriptors} descriptors");
    // Idle connections end at their deadline, even if their peers keep them open.
    wait_for_health(port);
    drop(held);
    wait_for_health(port);
    let page = http_get(port, "/metrics").1;
    let refused = page
        .lines()
        .find_map(|line| line.strip_prefix("clr_connections_refused_total{kind=\"http\"} "))
        .unwrap_or_else(|| panic!("no refused connections: {page}"));
    assert!(refused.parse::<u32>().unwrap() >= 50, "{refused}");
    assert_eq!(device.ask(&image(2))["task"], "birds");
    device.stop();
}

#[test]
fn a_device_out_of_descriptors_keeps_serving_and_the_port_recovers() {
    let (mut device, port) = device_with_http("");
    device.ask(&image(1));
    http_get(port, "/healthz");
    let pid = device.pid();
    let whole = getrlimit(Resource::Nofile);
    let limit = |current| {
        let maximum = whole.maximum;
        prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).unwrap()
    };
    let before = limit(Some(3));
    // The kernel completes the connection, but the device cannot accept it.
    let mut waiting = connect(port);
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let started = Instant::now();
    while !device.log().contains("cannot accept an HTTP connection") {
        assert!(started.elapsed() < TIMEOUT, "{}", device.log());
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(500));
    let lines = device.log().matches("cannot accept an HTTP connection").count();
    assert_eq!(lines, 1, "the log is not flooded");
    limit(before.current);
    // The waiting connection is served now.
    let told = rest(&waiting);
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert_eq!(device.ask(&image(2))["task"], "birds");
    device.stop();
}

#[test]
fn the_limit_of_open_files_is_raised_and_logged_with_the_other_limits() {
    let (device, _) = device_with_http("connections = 7\n");
    let log = device.log();
    assert!(
        log.contains("http_connections=7") && log.contains("open_files="),
        "{log}"
    );
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", device.pid().as_raw_nonzero())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let (soft, hard): (u64, u64) = (words[3].parse().unwrap(), words[4].parse().unwrap());
    assert!(soft >= hard.min(4096), "{line}");
}
