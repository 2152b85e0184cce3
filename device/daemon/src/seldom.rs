//! Log lines of one kind, at most one a minute: a flood must not fill the log.

use std::time::{Duration, Instant};

/// Between two log lines of the same kind.
const QUIET: Duration = Duration::from_mins(1);

/// A kind of log line that a flood must not repeat.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    last: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// The number of events since the last line, where a line is due.
    pub(crate) fn due(&mut self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < QUIET) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_told_at_once_and_the_others_are_counted_in_the_next_line() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.due_at(start), Some(1));
        for second in 0..59 {
            assert_eq!(seldom.due_at(start + Duration::from_secs(second)), None);
        }
        assert_eq!(seldom.due_at(start + QUIET), Some(60));
        assert_eq!(seldom.due_at(start + QUIET), None);
    }
}
