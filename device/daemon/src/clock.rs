//! Wall-clock time as RFC 3339 text. Times before 1970 are supported.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

/// Seconds of 400 Gregorian years, the period of the calendar.
const CYCLE: u64 = 146_097 * 86_400;
/// Number of cycles that moves a time before 1970 to after it.
const CYCLES: u64 = 5;
/// Seconds from the start of year 0 to 1970.
const FIRST: u64 = 719_528 * 86_400;
/// Seconds from 1970 to the end of year 9999, the last one that RFC 3339 can express.
const LAST: u64 = 253_402_300_799;

/// Returns a time as RFC 3339 with microseconds, UTC, clamped to the years 0 to 9999.
fn rfc3339(time: SystemTime) -> String {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => {
            let since = since.min(Duration::new(LAST, 999_999_000));
            humantime::format_rfc3339_micros(UNIX_EPOCH + since).to_string()
        }
        // `humantime` does not format times before 1970. The time is shifted by multiples of the calendar's period, and
        // the years are subtracted afterwards.
        Err(before) => {
            let before = before.duration().min(Duration::from_secs(FIRST));
            let shifted = UNIX_EPOCH + Duration::from_secs(CYCLE * CYCLES) - before;
            let text = humantime::format_rfc3339_micros(shifted).to_string();
            let year = text[..4]
                .parse::<u64>()
                .unwrap_or_default()
                .saturating_sub(400 * CYCLES);
            format!("{year:04}{}", &text[4..])
        }
    }
}

/// Returns the current time for a result line: RFC 3339, UTC, milliseconds.
pub(crate) fn now() -> String {
    milliseconds(SystemTime::now())
}

fn milliseconds(time: SystemTime) -> String {
    let mut text = rfc3339(time);
    text.truncate("0000-00-00T00:00:00.000".len());
    text.push('Z');
    text
}

/// Timer of log lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTime;

impl FormatTime for LogTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str(&rfc3339(SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> String {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 {
            UNIX_EPOCH - whole
        } else {
            UNIX_EPOCH + whole
        };
        milliseconds(time + Duration::from_nanos(nanoseconds.into()))
    }

    #[test]
    fn times_before_in_and_after_1970_are_written() {
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_795_000_000, 76_900_000), "2026-11-18T11:06:40.076Z");
        assert_eq!(at(-43_200, 0), "1969-12-31T12:00:00.000Z");
        assert_eq!(at(-1, 999_000_000), "1969-12-31T23:59:59.999Z");
        // 1904 was a leap year, 1900 was none.
        assert_eq!(at(-2_077_747_200, 0), "1904-02-29T00:00:00.000Z");
        assert_eq!(at(-2_203_891_200, 0), "1900-03-01T00:00:00.000Z");
    }

    #[test]
    fn times_outside_four_digit_years_are_clamped() {
        assert_eq!(at(i64::MAX / 4, 0), "9999-12-31T23:59:59.999Z");
        assert!(at(-(i64::MAX / 4), 0).starts_with("0000-01-01"));
    }
}
