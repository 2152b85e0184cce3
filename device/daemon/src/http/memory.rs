//! HTTP server on in-memory bytes, for fuzzing and tests, without a socket or a device.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll},
};

use clr_transfer::Health;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Limits, Monitored, Server, connection};

/// A device with constant replies.
pub(super) struct Fixed;

impl Monitored for Fixed {
    fn metrics(&self) -> String {
        "clr_up 1\n".to_owned()
    }

    fn health(&self) -> Health {
        Health::default()
    }

    fn connection_refused(&self) {}
}

/// A peer that sends its bytes in pieces of equal size, closes its sending side and records the response.
struct Peer<'a> {
    sends: &'a [u8],
    piece: usize,
    took: &'a mut Vec<u8>,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = self.sends.len().min(buffer.remaining()).min(self.piece);
        let (now, later) = self.sends.split_at(count);
        buffer.put_slice(now);
        self.sends = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.took.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Returns the response to a connection that sends `sent` in pieces of `piece` bytes and then closes. Bodies may have
/// up to `body_bytes` bytes. The device is constant, so the result is deterministic; for fuzzing.
///
/// # Panics
/// If no asynchronous runtime can be created, for lack of descriptors.
#[must_use]
pub fn http_answer(sent: &[u8], piece: usize, body_bytes: u64) -> Vec<u8> {
    answer_of(Arc::new(Fixed), sent, piece, body_bytes)
}

fn answer_of(device: Arc<dyn Monitored>, sent: &[u8], piece: usize, body_bytes: u64) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without input and output");
    let server = Server {
        device,
        limits: Limits {
            connections: 1,
            body_bytes,
        },
        open: AtomicUsize::new(0),
        open_remote: AtomicUsize::new(0),
    };
    let mut took = Vec::new();
    let peer = Peer {
        sends: sent,
        piece: piece.max(1),
        took: &mut took,
    };
    runtime.block_on(connection::serve(peer, &server));
    took
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the status code; 0 if there is no response.
    fn status(sent: &[u8]) -> u16 {
        let whole = http_answer(sent, usize::MAX, 1000);
        // The same response for pieces of any size.
        for piece in [1, 7] {
            assert_eq!(
                code(&http_answer(sent, piece, 1000)),
                code(&whole),
                "{}",
                sent.escape_ascii()
            );
        }
        code(&whole)
    }

    fn code(answer: &[u8]) -> u16 {
        let text = String::from_utf8_lossy(answer);
        text.split_whitespace().nth(1).map_or(0, |code| code.parse().unwrap())
    }

    #[test]
    fn good_requests_are_answered_and_only_the_first_of_a_connection() {
        assert_eq!(status(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
        assert_eq!(status(b"GET /metrics HTTP/1.0\r\n\r\n"), 200);
        assert_eq!(
            status(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"),
            405
        );
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 404);
        assert_eq!(status(b"GET /healthz/ HTTP/1.1\r\nHost: a\r\n\r\n"), 404);
        let three = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
        let answer = String::from_utf8(http_answer(&three, usize::MAX, 0)).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        let head = String::from_utf8(http_answer(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 99, 0)).unwrap();
        assert!(head.contains("200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    }

    /// A device whose handlers panic.
    struct Panics;

    impl Monitored for Panics {
        fn metrics(&self) -> String {
            panic!("a defect");
        }

        fn health(&self) -> Health {
            Health::default()
        }

        fn connection_refused(&self) {}
    }

    #[test]
    fn a_handler_that_panics_is_an_internal_error_of_that_request_alone() {
        let device: Arc<dyn Monitored> = Arc::new(Panics);
        for (path, expected) in [("/metrics", 500), ("/healthz", 200), ("/metrics", 500)] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = answer_of(Arc::clone(&device), request.as_bytes(), 99, 0);
            assert_eq!(code(&answer), expected, "{path}");
        }
    }

    #[test]
    fn json_is_given_where_it_is_asked_for() {
        for request in [
            "GET /healthz?json HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /healthz?a=1&json=1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /healthz HTTP/1.1\r\nHost: a\r\nAccept: text/html, Application/JSON;q=0.9\r\n\r\n",
        ] {
            let answer = String::from_utf8(http_answer(request.as_bytes(), 99, 0)).unwrap();
            let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert_eq!(
                (&body["schema"], &body["status"]),
                (&"clr.health/1".into(), &"ok".into())
            );
        }
        assert!(http_answer(b"GET /healthz?jsonx HTTP/1.0\r\n\r\n", 99, 0).ends_with(b"\r\n\r\nok\n"));
    }

    #[test]
    fn lengths_beyond_the_cap_are_refused_unread_and_impossible_ones_are_no_requests() {
        let post = |fields: &str| status(format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").as_bytes());
        assert_eq!(post("Content-Length: 1001"), 413);
        assert_eq!(post("Content-Length: 40000000000"), 413);
        assert!(matches!(post("Content-Length: 18446744073709551615"), 400 | 413 | 431));
        assert_eq!(post("Content-Length: 18446744073709551616"), 400);
        assert_eq!(post("Content-Length: 1\r\nContent-Length: 2"), 400);
        assert_eq!(post("Content-Length: -1"), 400);
        // In either order.
        assert_eq!(post("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400);
        assert_eq!(post("transfer-encoding: chunked\r\ncontent-length: 5"), 400);
        assert_eq!(post("Transfer-Encoding: gzip"), 400);
        // Announced, but never sent.
        assert_eq!(post("Content-Length: 7"), 400);
    }

    #[test]
    fn chunks_count_towards_the_cap() {
        let chunks = |count: usize| {
            let mut request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..count {
                request.extend(b"64\r\n");
                request.extend([b'a'; 100]);
                request.extend(b"\r\n");
            }
            request.extend(b"0\r\n\r\n");
            status(&request)
        };
        assert_eq!(chunks(10), 200);
        assert_eq!(chunks(11), 413);
        assert_eq!(chunks(1000), 413);
    }

    #[test]
    fn heads_that_are_too_large_are_refused() {
        let fields = |count: usize| "A: b\r\n".repeat(count);
        let request = |fields: &str| status(format!("GET /healthz HTTP/1.1\r\n{fields}\r\n").as_bytes());
        assert_eq!(request(&fields(32)), 200);
        assert_eq!(request(&fields(33)), 431);
        assert_eq!(request(&format!("A: {}\r\n", "b".repeat(20_000))), 431);
        assert!(matches!(
            status(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000)).as_bytes()),
            414 | 431
        ));
    }

    #[test]
    fn invalid_requests_are_refused_or_disconnected() {
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /healthz\r\n\r\n",
            b"GET /healthz HTTP/3.0\r\n\r\n",
            b"\0\0\0\0\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nA b\r\n\r\n",
            b"",
        ] {
            for piece in [1, 7, usize::MAX] {
                let code = code(&http_answer(garbage, piece, 0));
                assert!(matches!(code, 0 | 400 | 404), "{code}: {}", garbage.escape_ascii());
            }
        }
    }
}
