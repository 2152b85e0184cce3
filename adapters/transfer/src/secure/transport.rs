//! Sealed frames: a counter, then the plain body encrypted and authenticated.
//!
//! ```text
//! 'q' or 'r' · counter u64, little-endian · ChaCha20-Poly1305(plain body, nonce = counter) · tag of 16 bytes
//! ```

use alloc::{vec, vec::Vec};

use snow::StatelessTransportState;

use crate::frame::{Direction, Head};

/// Bytes of an authentication tag.
pub(super) const TAG: usize = 16;

/// The two ciphers of a session and the counters of both directions.
pub(crate) struct Transport {
    state: StatelessTransportState,
    /// Counter of the last sealed frame. Every frame has a new counter, also when it is sent again, so no nonce is used
    /// twice.
    sent: u64,
    /// Counter of the last opened frame. Only frames with a higher counter are accepted.
    received: u64,
    /// Direction of the peer's frames.
    from_peer: Direction,
    to_peer: Direction,
}

impl Transport {
    pub(super) fn new(state: StatelessTransportState) -> Self {
        let (to_peer, from_peer) = if state.is_initiator() {
            (Direction::SealedRequest, Direction::SealedReply)
        } else {
            (Direction::SealedReply, Direction::SealedRequest)
        };
        Self {
            state,
            sent: 0,
            received: 0,
            from_peer,
            to_peer,
        }
    }

    /// Seals a plain body into the body of a frame. Returns `None` if it is too long.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let counter = self.sent.checked_add(1)?;
        let mut body = Vec::with_capacity(Head::BYTES + plain.len() + TAG + 4);
        Head::of_counter(self.to_peer, counter).write(&mut body);
        let start = body.len();
        body.resize(start + plain.len() + TAG, 0);
        let sealed = self.state.write_message(counter, plain, &mut body[start..]).ok()?;
        body.truncate(start + sealed);
        self.sent = counter;
        Some(body)
    }

    /// Opens the body of a sealed frame. Returns `None` if it is from another session, was altered, or is not newer
    /// than the last one.
    pub(crate) fn open(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let (head, sealed) = Head::split(body)?;
        let counter = head.counter();
        if head.direction != self.from_peer || counter <= self.received {
            return None;
        }
        let mut plain = vec![0; sealed.len()];
        let length = self.state.read_message(counter, sealed, &mut plain).ok()?;
        plain.truncate(length);
        // Only an authentic frame advances the counter, so a forged one has no effect.
        self.received = counter;
        Some(plain)
    }
}
