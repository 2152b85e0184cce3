//! Rate-limited log of losses.

use std::time::{Duration, Instant};

/// Minimum time between two log lines.
const INTERVAL: Duration = Duration::from_secs(30);

/// Schedule of log lines about losses: the first is logged immediately, later ones are aggregated.
#[derive(Debug, Default)]
pub(crate) struct LossLog {
    last: Option<Instant>,
    unlogged: u64,
    in_progress: bool,
}

impl LossLog {
    /// Adds losses. Returns the number of losses to log if a line is due.
    pub(crate) fn add(&mut self, count: u64) -> Option<u64> {
        self.unlogged += count;
        self.in_progress |= count > 0;
        self.due()
    }

    /// Returns the number of losses to log if a line is due.
    pub(crate) fn due(&mut self) -> Option<u64> {
        let due = self.unlogged > 0 && self.last.is_none_or(|last| last.elapsed() >= INTERVAL);
        due.then(|| {
            self.last = Some(Instant::now());
            self.rest()
        })
    }

    /// Returns true once when the losses have stopped and their end should be logged.
    pub(crate) fn over(&mut self) -> bool {
        self.in_progress && self.unlogged == 0 && {
            self.in_progress = false;
            true
        }
    }

    /// Returns the number of losses that have not been logged, and marks them as logged.
    pub(crate) fn rest(&mut self) -> u64 {
        std::mem::take(&mut self.unlogged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_is_logged_at_once_and_the_next_ones_together() {
        let mut log = LossLog::default();
        assert_eq!(log.add(1), Some(1));
        assert!((0..1000).all(|_| log.add(2).is_none()));
        assert!(!log.over(), "not all of it is logged");
        assert_eq!(log.rest(), 2000);
        assert!(log.over() && !log.over());
    }
}
