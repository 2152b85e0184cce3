//! Fuzz target of an HTTP connection: `clr_daemon::http_answer`, the server on in-memory bytes.
//!
//! The bytes are sent unchanged, and a second time as a request with a valid start. The division into pieces must not
//! affect the response.
#![no_main]

use clr_daemon::http_answer;
use libfuzzer_sys::fuzz_target;

/// The cap on bodies.
const BODY: u64 = 256;

/// Starts of requests that fuzzing would rarely find.
const STARTS: [&str; 5] = [
    "",
    "GET /metrics HTTP/1.1\r\nHost: a\r\n",
    "GET /healthz HTTP/1.1\r\nContent-Length: ",
    "POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET /",
];

/// Returns the status of the only response; `None` if the connection was closed without one.
fn status(answer: &[u8]) -> Option<u16> {
    if answer.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(answer);
    let rest = text
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| text.strip_prefix("HTTP/1.0 "));
    let code = rest.and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    assert!(code.is_some(), "no status line: {}", answer.escape_ascii());
    assert!(
        text.contains("\r\n\r\n"),
        "no end of the head: {}",
        answer.escape_ascii()
    );
    code
}

/// The start of HTTP/2, which the server does not support. If it arrives in one piece, the connection is closed without
/// a response; otherwise the response is 400. The same applies to an invalid head before it.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns whether the bytes contain a head whose end hyper recognises, however the bytes are divided.
fn ends(sent: &[u8]) -> bool {
    let first = sent.iter().position(|byte| !b"\r\n".contains(byte));
    let head = &sent[first.unwrap_or(sent.len())..];
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

fuzz_target!(|data: &[u8]| {
    let (Some((&choice, data)), piece) = (data.split_first(), 1 + data.len() / 3) else {
        return;
    };
    let start = STARTS[usize::from(choice) % STARTS.len()].as_bytes();
    let sent = [start, data].concat();
    let whole = status(&http_answer(&sent, usize::MAX, BODY));
    let pieces = status(&http_answer(&sent, piece, BODY));
    // An invalid head without an end gets an early response, or the connection is closed at the end of the bytes.
    let http_2 = sent.windows(HTTP_2.len()).any(|bytes| bytes == HTTP_2);
    if (whole.is_none() || pieces.is_none()) && (http_2 || !ends(&sent)) {
        return;
    }
    assert_eq!(pieces, whole, "in pieces of {piece} bytes: {}", sent.escape_ascii());
});
