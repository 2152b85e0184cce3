//! Protocol frames, `00 COBS(body ‖ CRC-32) 00`. The leading zero terminates any garbage before the frame.

use alloc::vec::Vec;

use crate::message::MAX_CHUNK;

/// Bytes of a checksum.
const CRC: usize = 4;
/// Bytes of a [`Head`].
const HEAD: usize = 9;
/// Maximum bytes of a frame's body: one chunk and its message.
pub const MAX_BODY: usize = MAX_CHUNK as usize + 1024;
/// Maximum bytes of a frame between its two delimiting zeros.
pub const MAX_FRAME: usize = cobs::max_encoding_length(MAX_BODY + CRC);

/// Direction and kind of a frame. A receiver skips frames of its own direction, because a line may echo them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// Frame from the host.
    Request = b'Q',
    /// Frame from the device.
    Reply = b'R',
    /// A handshake message in either direction, identified by its number in the sequence.
    Handshake = b'N',
    /// Sealed frame from the host.
    SealedRequest = b'q',
    /// Sealed frame from the device.
    SealedReply = b'r',
}

/// The first nine bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Direction and kind.
    pub direction: Direction,
    /// Session number, which the host chooses at random for every connection.
    pub session: u32,
    /// Request number within the session, from 1; the reply repeats it. 0 means no request.
    pub sequence: u32,
}

impl Head {
    /// Bytes of a head.
    pub(crate) const BYTES: usize = HEAD;

    /// Returns the head of a sealed frame, which has a counter in place of session and sequence.
    #[cfg(feature = "secure")]
    pub(crate) const fn of_counter(direction: Direction, counter: u64) -> Self {
        Self {
            direction,
            session: counter as u32,
            sequence: (counter >> 32) as u32,
        }
    }

    /// Returns the counter of a sealed frame.
    #[cfg(feature = "secure")]
    pub(crate) const fn counter(self) -> u64 {
        (self.sequence as u64) << 32 | self.session as u64
    }

    /// Splits the head off a body; `None` if the body is too short.
    #[must_use]
    pub fn split(body: &[u8]) -> Option<(Self, &[u8])> {
        let (head, message) = body.split_first_chunk::<HEAD>()?;
        let [direction, a, b, c, d, e, f, g, h] = *head;
        let direction = match direction {
            b'Q' => Direction::Request,
            b'R' => Direction::Reply,
            b'N' => Direction::Handshake,
            b'q' => Direction::SealedRequest,
            b'r' => Direction::SealedReply,
            _ => return None,
        };
        let head = Self {
            direction,
            session: u32::from_le_bytes([a, b, c, d]),
            sequence: u32::from_le_bytes([e, f, g, h]),
        };
        Some((head, message))
    }

    /// Appends the head.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.push(self.direction as u8);
        out.extend(self.session.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
    }
}

/// Appends the frame of `body` to `out`, with both zeros. `body` has at most [`MAX_BODY`] bytes and does not change.
pub fn encode_frame(body: &mut Vec<u8>, out: &mut Vec<u8>) {
    let bare = body.len();
    body.extend(crc32fast::hash(body).to_le_bytes());
    out.push(0);
    let start = out.len();
    out.resize(start + cobs::max_encoding_length(body.len()), 0);
    let length = cobs::encode(body, &mut out[start..]);
    out.truncate(start + length);
    out.push(0);
    body.truncate(bare);
}

/// Outcome of the bytes before a zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// An intact frame: see [`Decoder::body`].
    Frame,
    /// The bytes are not a valid frame: damaged, too long, or garbage.
    Damaged,
}

/// Splits a stream of bytes into frames. Buffers at most `cap` bytes.
#[derive(Debug)]
pub struct Decoder {
    cap: usize,
    frame: Vec<u8>,
    /// Bytes of the body of a complete frame.
    body: Option<usize>,
    /// Discarded bytes beyond the cap.
    overflow: bool,
    frames: u64,
    damaged: u64,
    skipped: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(MAX_FRAME)
    }
}

impl Decoder {
    /// Creates a decoder for frames of at most `cap` bytes between their zeros.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self {
            cap: cap.min(MAX_FRAME),
            frame: Vec::new(),
            body: None,
            overflow: false,
            frames: 0,
            damaged: 0,
            skipped: 0,
        }
    }

    /// Consumes bytes up to the end of a frame. Returns the number of consumed bytes and the event, or `None` if more
    /// bytes are needed.
    pub fn feed(&mut self, bytes: &[u8]) -> (usize, Option<FrameEvent>) {
        if self.body.take().is_some() {
            self.frame.clear();
        }
        let zero = bytes.iter().position(|&byte| byte == 0);
        let part = &bytes[..zero.unwrap_or(bytes.len())];
        if self.frame.len() + part.len() > self.cap {
            self.overflow = true;
            self.skipped += (self.frame.len() + part.len()) as u64;
            self.frame.clear();
        } else if self.overflow {
            self.skipped += part.len() as u64;
        } else {
            if self.frame.capacity() < self.frame.len() + part.len() {
                let wanted = (2 * (self.frame.len() + part.len())).clamp(512, self.cap.max(512));
                self.frame.reserve_exact(wanted - self.frame.len());
            }
            self.frame.extend_from_slice(part);
        }
        match zero {
            Some(at) => (at + 1, self.end()),
            None => (bytes.len(), None),
        }
    }

    /// Returns the body of the last frame without its checksum; empty if there was none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.frame[..self.body.unwrap_or(0)]
    }

    /// Returns whether the stream is in the middle of a frame.
    #[must_use]
    pub fn within(&self) -> bool {
        self.body.is_none() && (self.overflow || !self.frame.is_empty())
    }

    /// Returns the number of intact frames so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns the number of damaged frames and garbage sequences so far.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Returns the number of bytes in damaged frames and garbage sequences.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn end(&mut self) -> Option<FrameEvent> {
        if !self.overflow && self.frame.is_empty() {
            return None;
        }
        self.body = if self.overflow { None } else { unpack(&mut self.frame) };
        if self.body.is_some() {
            self.frames += 1;
            return Some(FrameEvent::Frame);
        }
        self.damaged += 1;
        self.skipped += self.frame.len() as u64;
        self.overflow = false;
        self.frame.clear();
        Some(FrameEvent::Damaged)
    }
}

/// Decodes COBS in place. Returns the length of the body if its checksum is correct.
fn unpack(frame: &mut [u8]) -> Option<usize> {
    let length = cobs::decode_in_place(frame).ok()?;
    let (body, crc) = frame[..length].split_last_chunk::<CRC>()?;
    let fits = body.len() >= HEAD && crc32fast::hash(body) == u32::from_le_bytes(*crc);
    fits.then_some(body.len())
}
