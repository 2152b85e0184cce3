//! Monotonic clock with sleep, for deadlines and reconnections.

use core::time::Duration;

/// A monotonic clock.
pub trait Clock {
    /// Returns the time since a fixed moment. Never decreases.
    fn now(&self) -> Duration;
    /// Sleeps, between two attempts to connect.
    fn sleep(&self, duration: Duration);
}

/// The system's monotonic clock.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(std::time::Instant);

#[cfg(feature = "std")]
impl SystemClock {
    /// Creates a clock that starts at 0.
    #[must_use]
    pub fn new() -> Self {
        Self(std::time::Instant::now())
    }
}

#[cfg(feature = "std")]
impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "std")]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
