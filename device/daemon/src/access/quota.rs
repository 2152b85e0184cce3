//! Quotas of a host: bytes written per day, requests per second.

use std::time::{Duration, Instant};

use clr_transfer::{Failure, FailureCode};

const DAY: Duration = Duration::from_hours(24);
/// Capacity of the token bucket in seconds. The bucket holds at most the tokens that are earned in this time.
const BURST: f64 = 4.0;

/// Usage of a host since the start.
#[derive(Debug)]
pub(super) struct Usage {
    day: Instant,
    bytes: u64,
    /// Number of tokens in the bucket at the time `counted`.
    tokens: f64,
    counted: Instant,
}

impl Usage {
    pub(super) fn new(now: Instant, rate: u32) -> Self {
        Self {
            day: now,
            bytes: 0,
            tokens: BURST * f64::from(rate),
            counted: now,
        }
    }

    /// Counts bytes before they are written.
    ///
    /// # Errors
    /// [`FailureCode::QUOTA`] if the day's total would exceed `most` bytes.
    pub(super) fn write(&mut self, now: Instant, bytes: u64, most: u64) -> Result<(), Failure> {
        if now.duration_since(self.day) >= DAY {
            (self.day, self.bytes) = (now, 0);
        }
        if self.bytes.saturating_add(bytes) > most {
            let hours = DAY
                .saturating_sub(now.duration_since(self.day))
                .as_secs()
                .div_ceil(3600);
            return Err(Failure::new(
                FailureCode::QUOTA,
                format_args!(
                    "{} of the daily {most} bytes were written for this host, {bytes} more exceed the limit\nhint: \
                     wait {hours} hours, or raise limits.host_bytes_per_day in the device's configuration",
                    self.bytes
                ),
            ));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Counts a request. Returns how long the request must wait, so that the host keeps to `rate` requests per second.
    pub(super) fn request(&mut self, now: Instant, rate: u32) -> Duration {
        let rate = f64::from(rate.max(1));
        let earned = now.duration_since(self.counted).as_secs_f64() * rate;
        self.tokens = (self.tokens + earned).min(BURST * rate) - 1.0;
        self.counted = now;
        Duration::from_secs_f64((-self.tokens).max(0.0) / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_the_day() {
        let now = Instant::now();
        let mut usage = Usage::new(now, 10);
        usage.write(now, 600, 1_000).unwrap();
        let refused = usage.write(now, 600, 1_000).unwrap_err();
        assert_eq!(refused.code, FailureCode::QUOTA);
        usage.write(now, 400, 1_000).unwrap();
        usage.write(now + DAY, 600, 1_000).unwrap();
    }

    #[test]
    fn requests_beyond_the_rate_wait() {
        let now = Instant::now();
        let mut usage = Usage::new(now, 10);
        let waits: Vec<_> = (0..60).map(|_| usage.request(now, 10)).collect();
        assert!(waits[..40].iter().all(Duration::is_zero));
        assert!((waits[59].as_secs_f64() - 2.0).abs() < 1e-6, "{:?}", waits[59]);
        assert!(usage.request(now + Duration::from_mins(1), 10).is_zero());
    }
}
