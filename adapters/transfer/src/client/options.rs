//! Options of a client: deadlines, retries and limits.

use alloc::string::String;
use core::time::Duration;

use super::Security;
use crate::message::MAX_CHUNK;

/// Deadlines, retries and limits of a [`Client`](crate::Client).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The client program's name and version, for the device's log.
    pub name: String,
    /// Maximum size of a chunk in bytes.
    pub chunk: u32,
    /// Number of the first session. Programs that share a serial line need different numbers.
    pub session: u32,
    /// Time without any received byte after which a request is repeated.
    pub quiet: Duration,
    /// Maximum time from a request to its reply, including repetitions.
    pub reply: Duration,
    /// Maximum time from the first hello of a connection to its reply, including repetitions.
    pub greeting: Duration,
    /// Maximum time of a frame from its first byte to its last, in either direction.
    pub frame: Duration,
    /// Maximum number of times that a request is sent on the same connection.
    pub sends: u32,
    /// Maximum number of attempts of the first connection.
    pub first_attempts: u32,
    /// Maximum number of consecutive reconnections without progress.
    pub attempts: u32,
    /// Delay before the first reconnection; doubled for each further one.
    pub backoff: Duration,
    /// Maximum delay before a reconnection.
    pub longest_backoff: Duration,
    /// Security of the sessions.
    pub security: Security,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            name: String::from(concat!("clr-transfer ", env!("CARGO_PKG_VERSION"))),
            chunk: MAX_CHUNK,
            session: 1,
            quiet: Duration::from_secs(2),
            reply: Duration::from_mins(2),
            greeting: Duration::from_secs(6),
            frame: Duration::from_secs(10),
            sends: 64,
            first_attempts: 1,
            attempts: 8,
            backoff: Duration::from_millis(200),
            longest_backoff: Duration::from_secs(5),
            security: Security::Plain,
        }
    }
}

impl ClientOptions {
    /// Returns options for a serial line of this many bits per second.
    #[must_use]
    pub fn for_baud(baud: u32) -> Self {
        let serve = crate::serve::ServeLimits::for_baud(baud);
        Self {
            chunk: serve.caps.chunk,
            frame: serve.frame,
            ..Self::default()
        }
    }

    /// Sets the client program's name and version, for the device's log.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the maximum size of a chunk in bytes.
    #[must_use]
    pub fn with_chunk(mut self, chunk: u32) -> Self {
        self.chunk = chunk;
        self
    }

    /// Sets the number of the first session.
    #[must_use]
    pub fn with_session(mut self, session: u32) -> Self {
        self.session = session;
        self
    }

    /// Sets the time without any received byte after which a request is repeated.
    #[must_use]
    pub fn with_quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// Sets the maximum time from a request to its reply, including repetitions.
    #[must_use]
    pub fn with_reply(mut self, reply: Duration) -> Self {
        self.reply = reply;
        self
    }

    /// Sets the maximum time from the first hello of a connection to its reply, including repetitions.
    #[must_use]
    pub fn with_greeting(mut self, greeting: Duration) -> Self {
        self.greeting = greeting;
        self
    }

    /// Sets the maximum time of a frame from its first byte to its last.
    #[must_use]
    pub fn with_frame(mut self, frame: Duration) -> Self {
        self.frame = frame;
        self
    }

    /// Sets the maximum number of times that a request is sent on the same connection.
    #[must_use]
    pub fn with_sends(mut self, sends: u32) -> Self {
        self.sends = sends;
        self
    }

    /// Sets the maximum number of attempts of the first connection.
    #[must_use]
    pub fn with_first_attempts(mut self, first_attempts: u32) -> Self {
        self.first_attempts = first_attempts;
        self
    }

    /// Sets the maximum number of consecutive reconnections without progress.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the delay before the first reconnection.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the maximum delay before a reconnection.
    #[must_use]
    pub fn with_longest_backoff(mut self, longest_backoff: Duration) -> Self {
        self.longest_backoff = longest_backoff;
        self
    }

    /// Sets the security of the sessions.
    #[must_use]
    pub fn with_security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }
}
