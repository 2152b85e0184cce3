//! Requests to a device's HTTP port.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::device::TIMEOUT;

/// Sends an HTTP/1.0 request, as soon as the device listens. Returns the status and the body.
pub(super) fn http_get(port: u16, path: &str) -> (u16, String) {
    let start = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && start.elapsed() < TIMEOUT => {
                thread::sleep(Duration::from_millis(10));
            }
            connected => break connected.unwrap(),
        }
    };
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

/// Returns the value of a metric without labels.
pub(super) fn metric(port: u16, name: &str) -> f64 {
    let page = http_get(port, "/metrics").1;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}
