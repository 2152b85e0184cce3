//! Server side of a connection, with deadlines.

use core::time::Duration;

use embedded_io::{ErrorKind, Read, Write};

use crate::{
    clock::Clock,
    device::Device,
    frame::FrameEvent,
    receive::{NoFrame, Patience, Receiver, send},
    session::{Frames, Session, SessionLimits},
};

/// Deadlines and caps of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeLimits {
    /// Maximum time of a frame from its first byte to its last, in either direction. It limits the chunk size on a slow
    /// line: see [`ServeLimits::for_baud`].
    pub frame: Duration,
    /// Maximum time without a valid frame from the peer.
    pub idle: Duration,
    /// Maximum time of the connection.
    pub session: Duration,
    /// Maximum time until the session is open.
    pub opening: Duration,
    /// Caps on sizes.
    pub caps: SessionLimits,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            frame: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            session: Duration::from_hours(1),
            opening: Duration::from_mins(1),
            caps: SessionLimits::default(),
        }
    }
}

impl ServeLimits {
    /// Returns limits for a serial line of this many bits per second. A chunk takes about a third of a second and has
    /// 256 bytes to 4 KiB. The deadline of a frame allows for twice the largest reply.
    #[must_use]
    pub fn for_baud(baud: u32) -> Self {
        let bytes_a_second = u64::from(baud / 10).max(1);
        Self {
            frame: Duration::from_secs(5 + 32 * 1024 / bytes_a_second),
            caps: SessionLimits {
                chunk: ((bytes_a_second / 3) as u32)
                    .clamp(256, 4096)
                    .next_power_of_two()
                    .min(4096),
                ..SessionLimits::default()
            },
            ..Self::default()
        }
    }

    /// Sets the maximum time of a frame from its first byte to its last, in either direction.
    #[must_use]
    pub fn with_frame(mut self, frame: Duration) -> Self {
        self.frame = frame;
        self
    }

    /// Sets the maximum time without a valid frame from the peer.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets the maximum time of the connection.
    #[must_use]
    pub fn with_session(mut self, session: Duration) -> Self {
        self.session = session;
        self
    }

    /// Sets the maximum time until the session is open.
    #[must_use]
    pub fn with_opening(mut self, opening: Duration) -> Self {
        self.opening = opening;
        self
    }

    /// Sets the caps on sizes.
    #[must_use]
    pub fn with_caps(mut self, caps: SessionLimits) -> Self {
        self.caps = caps;
        self
    }
}

/// Regular end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The peer closed the connection.
    Closed,
    /// No valid frame arrived for [`ServeLimits::idle`].
    Idle,
    /// The connection lasted for [`ServeLimits::session`].
    Expired,
    /// The device shuts down.
    Stopped,
}

/// Statistics of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The end of the connection.
    pub end: End,
    /// Number of intact frames from the peer.
    pub frames: u64,
    /// Number of damaged frames and garbage sequences.
    pub damaged: u64,
    /// Number of bytes in damaged frames and garbage sequences.
    pub skipped: u64,
}

/// Reason for dropping a connection. Durably written bytes are kept, and the next connection resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The peer did not end a frame in time.
    #[error("the peer did not end its frame within {0:?}")]
    StalledReading(Duration),
    /// The peer did not accept a frame in time.
    #[error("the peer did not accept a frame within {0:?}")]
    StalledWriting(Duration),
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(ErrorKind),
}

/// Serves one connection until it ends. Blocks, so use one thread per connection.
///
/// The stream's `read` and `write` should time out with `TimedOut` after about 10 to 200 ms, because deadlines and
/// [`Device::stopping`] are checked between two calls.
///
/// # Errors
/// [`ServeError`] if the peer is too slow, or the stream fails.
pub fn serve<S: Read + Write>(
    stream: &mut S,
    device: &dyn Device,
    clock: &dyn Clock,
    limits: &ServeLimits,
) -> Result<Served, ServeError> {
    let frames = &mut Session::new(device, limits.caps);
    serve_frames(stream, frames, &|| device.stopping(), clock, limits)
}

/// Serves one connection like [`serve`], with the sessions that `admission` admits.
///
/// # Errors
/// [`ServeError`] in the same cases as [`serve`].
#[cfg(feature = "secure")]
pub fn serve_admitted<S: Read + Write>(
    stream: &mut S,
    device: &dyn Device,
    admission: &dyn crate::secure::Admission,
    clock: &dyn Clock,
    limits: &ServeLimits,
) -> Result<Served, ServeError> {
    let frames = &mut crate::secure::Channel::new(device, admission, limits.caps);
    serve_frames(stream, frames, &|| device.stopping(), clock, limits)
}

fn serve_frames<S: Read + Write>(
    stream: &mut S,
    session: &mut dyn Frames,
    stop: &dyn Fn() -> bool,
    clock: &dyn Clock,
    limits: &ServeLimits,
) -> Result<Served, ServeError> {
    let mut receiver = Receiver::new();
    let start = clock.now();
    let expires = start + limits.session;
    let mut good = start;
    let end = loop {
        let until = expires.min(good + limits.idle);
        let patience = Patience {
            until: if session.is_open() {
                until
            } else {
                until.min(start + limits.opening)
            },
            frame: limits.frame,
            quiet: None,
        };
        let reply = match receiver.next(stream, clock, patience, stop) {
            Ok(FrameEvent::Frame) => {
                let reply = session.handle(receiver.decoder.body());
                good = clock.now();
                reply
            }
            Ok(FrameEvent::Damaged) => Some(session.damaged()),
            Err(NoFrame::Closed) => break End::Closed,
            Err(NoFrame::Stopped) => break End::Stopped,
            Err(NoFrame::Idle | NoFrame::Quiet) if clock.now() >= expires => break End::Expired,
            Err(NoFrame::Idle | NoFrame::Quiet) => break End::Idle,
            Err(NoFrame::Stalled) => return Err(ServeError::StalledReading(limits.frame)),
            Err(NoFrame::Io(kind)) if is_hang_up(kind) => break End::Closed,
            Err(NoFrame::Io(kind)) => return Err(ServeError::Io(kind)),
        };
        let Some(reply) = reply else { continue };
        match send(stream, clock, reply, clock.now() + limits.frame, stop) {
            Ok(()) => {}
            Err(NoFrame::Closed) => break End::Closed,
            Err(NoFrame::Stopped) => break End::Stopped,
            Err(NoFrame::Io(kind)) if is_hang_up(kind) => break End::Closed,
            Err(NoFrame::Io(kind)) => return Err(ServeError::Io(kind)),
            Err(NoFrame::Stalled | NoFrame::Idle | NoFrame::Quiet) => {
                return Err(ServeError::StalledWriting(limits.frame));
            }
        }
    };
    Ok(Served {
        end,
        frames: receiver.decoder.frames(),
        damaged: receiver.decoder.damaged(),
        skipped: receiver.decoder.skipped(),
    })
}

fn is_hang_up(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}
