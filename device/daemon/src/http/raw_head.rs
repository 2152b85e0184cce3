//! Stream wrapper that keeps a copy of the request's head.
//!
//! hyper drops `Content-Length` if there is also `Transfer-Encoding`, as RFC 9112, section 6.3, permits. Such a request
//! is usually forged, and only the raw head reveals it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Maximum bytes of a head: the smallest buffer that hyper accepts.
pub(super) const HEAD_BYTES: usize = 8 << 10;

/// The bytes of the head and those after it, up to the cap.
#[derive(Clone, Debug, Default)]
pub(super) struct RawHead(Arc<Mutex<Vec<u8>>>);

impl RawHead {
    fn keep(&self, bytes: &[u8]) {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = HEAD_BYTES.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    /// Returns whether the head has a field of this name, ignoring case. The head has been parsed before, so every
    /// field is one line.
    pub(super) fn has_field(&self, name: &str) -> bool {
        let head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        head.split(|&byte| byte == b'\n')
            .skip_while(|line| line.trim_ascii().is_empty())
            .skip(1)
            .take_while(|line| !line.trim_ascii().is_empty())
            .filter_map(|line| line.split(|&byte| byte == b':').next())
            .any(|field| field.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Stream wrapper that records the head.
pub(super) struct Recorded<S> {
    inner: S,
    head: RawHead,
}

impl<S> Recorded<S> {
    pub(super) fn new(inner: S) -> (Self, RawHead) {
        let head = RawHead::default();
        let kept = head.clone();
        (Self { inner, head }, kept)
    }

    pub(super) fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.head.keep(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_only_in_the_head() {
        let head = RawHead::default();
        head.keep(b"\r\nGET /content-length:1 HTTP/1.1\r\nHost: content-length\r\n");
        assert!(!head.has_field("content-length") && head.has_field("HOST"));
        head.keep(b"Content-LENGTH : 5\r\nOther: 1\r\n\r\nTE: body\r\n");
        assert!(head.has_field("content-length") && head.has_field("other") && !head.has_field("te"));
        head.keep(&[b'a'; 2 * HEAD_BYTES]);
        assert_eq!(head.0.lock().unwrap().len(), HEAD_BYTES);
    }
}
