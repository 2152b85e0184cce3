//! The bytes of an HTTP connection: `clr_daemon::http_answer`, the server over bytes in memory.
//!
//! The bytes are sent as they are, and once more as a request whose start is sound. How they are cut on the way makes no difference.
#![no_main]

use clr_daemon::http_answer;
use libfuzzer_sys::fuzz_target;

/// The cap on bodies.
const BODY: u64 = 256;

/// Starts of requests, of which fuzzing would find few.
const STARTS: [&str; 5] = [
    "",
    "GET /metrics HTTP/1.1\r\nHost: a\r\n",
    "GET /healthz HTTP/1.1\r\nContent-Length: ",
    "POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET /",
];

/// Status of the only answer; nothing where the connection was closed without one.
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

/// The start of HTTP/2, which no part of this server speaks: closed without an answer if it arrives in one piece, else answered with 400;
/// so is a wrong head in front of it.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the bytes hold a head that hyper sees the end of however it arrives.
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
    // A head without end that is seen to be wrong is answered early, or closed at the end of the bytes.
    let http_2 = sent.windows(HTTP_2.len()).any(|bytes| bytes == HTTP_2);
    if (whole.is_none() || pieces.is_none()) && (http_2 || !ends(&sent)) {
        return;
    }
    assert_eq!(pieces, whole, "in pieces of {piece} bytes: {}", sent.escape_ascii());
});
