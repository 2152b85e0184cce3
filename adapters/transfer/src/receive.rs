//! Reads and writes frames within deadlines.
//!
//! A stream's `read` waits for bytes for a short time (about 10 to 200 ms) and then fails with `TimedOut`. The deadline
//! is checked between two calls. If a stream never times out, only received bytes cause a check.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use embedded_io::{Error as _, ErrorKind, Read, Write};

use crate::{
    clock::Clock,
    frame::{Decoder, FrameEvent},
};

/// Maximum bytes of one read from a stream.
const INPUT: usize = 4096;

/// Deadlines of reading a frame. Times refer to the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Deadline for the end of a frame.
    pub(crate) until: Duration,
    /// Maximum time of a frame from its first byte to its last.
    pub(crate) frame: Duration,
    /// Maximum time without a byte.
    pub(crate) quiet: Option<Duration>,
}

/// Reason for a read without a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// The stream ended.
    Closed,
    /// The deadline passed between frames.
    Idle,
    /// The deadline passed within a frame.
    Stalled,
    /// No byte came within the limit.
    Quiet,
    /// The receiver was stopped.
    Stopped,
    /// The stream failed.
    Io(ErrorKind),
}

fn is_wait(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Reads frames.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) decoder: Decoder,
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// Start of the current frame.
    began: Option<Duration>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            decoder: Decoder::default(),
            input: vec![0; INPUT],
            start: 0,
            end: 0,
            began: None,
        }
    }

    /// Returns the next frame or garbage sequence.
    pub(crate) fn next<S: Read>(
        &mut self,
        stream: &mut S,
        clock: &dyn Clock,
        patience: Patience,
        stop: &dyn Fn() -> bool,
    ) -> Result<FrameEvent, NoFrame> {
        let mut heard = clock.now();
        loop {
            while self.start < self.end {
                let (taken, event) = self.decoder.feed(&self.input[self.start..self.end]);
                self.start += taken;
                if let Some(event) = event {
                    self.began = None;
                    return Ok(event);
                }
            }
            let now = clock.now();
            self.began = self.decoder.within().then(|| self.began.unwrap_or(now));
            if stop() {
                return Err(NoFrame::Stopped);
            }
            if self.began.is_some_and(|began| now >= began + patience.frame) {
                return Err(NoFrame::Stalled);
            }
            if now >= patience.until {
                return Err(if self.began.is_some() {
                    NoFrame::Stalled
                } else {
                    NoFrame::Idle
                });
            }
            if patience.quiet.is_some_and(|quiet| now >= heard + quiet) {
                return Err(NoFrame::Quiet);
            }
            match stream.read(&mut self.input) {
                Ok(0) => return Err(NoFrame::Closed),
                Ok(count) => {
                    (self.start, self.end) = (0, count.min(self.input.len()));
                    heard = clock.now();
                }
                Err(error) if is_wait(error.kind()) => {}
                Err(error) => return Err(NoFrame::Io(error.kind())),
            }
        }
    }
}

/// Writes all of `bytes` by the deadline.
pub(crate) fn send<S: Write>(
    stream: &mut S,
    clock: &dyn Clock,
    mut bytes: &[u8],
    until: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<(), NoFrame> {
    let wait = |error: S::Error| {
        if !is_wait(error.kind()) {
            Err(NoFrame::Io(error.kind()))
        } else if stop() {
            Err(NoFrame::Stopped)
        } else if clock.now() >= until {
            Err(NoFrame::Stalled)
        } else {
            Ok(())
        }
    };
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(NoFrame::Closed),
            Ok(count) => {
                bytes = &bytes[count.min(bytes.len())..];
                // Also checked after successful writes, because a peer that accepts one byte per second never makes
                // `write` fail.
                if clock.now() >= until && !bytes.is_empty() {
                    return Err(NoFrame::Stalled);
                }
            }
            Err(error) => wait(error)?,
        }
    }
    while let Err(error) = stream.flush() {
        wait(error)?;
    }
    Ok(())
}
