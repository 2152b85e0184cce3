//! Rate limit for one kind of log line: at most one per minute.

use std::time::{Duration, Instant};

/// Minimum time between two lines.
const INTERVAL: Duration = Duration::from_mins(1);

/// Rate limit of one kind of log line.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    last: Option<Instant>,
    unlogged: u64,
}

impl Seldom {
    /// Counts an event. Returns the number of events since the last line if a line is due.
    pub(crate) fn due(&mut self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_immediately_and_the_others_are_counted_in_the_next_line() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.due_at(start), Some(1));
        for second in 0..59 {
            assert_eq!(seldom.due_at(start + Duration::from_secs(second)), None);
        }
        assert_eq!(seldom.due_at(start + INTERVAL), Some(60));
        assert_eq!(seldom.due_at(start + INTERVAL), None);
    }
}
