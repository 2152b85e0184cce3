//! Losses that are counted one by one and logged now and then.

use std::time::{Duration, Instant};

/// How long losses are gathered before the next log line.
const INTERVAL: Duration = Duration::from_secs(30);

/// Decides when losses are logged: the first at once, later ones gathered.
#[derive(Debug, Default)]
pub(crate) struct LossLog {
    last: Option<Instant>,
    unsaid: u64,
    under_way: bool,
}

impl LossLog {
    /// Adds losses; returns how many to log now.
    pub(crate) fn add(&mut self, count: u64) -> Option<u64> {
        self.unsaid += count;
        self.under_way |= count > 0;
        self.due()
    }

    /// Returns how many losses to log now, where some were gathered long enough.
    pub(crate) fn due(&mut self) -> Option<u64> {
        let due = self.unsaid > 0 && self.last.is_none_or(|last| last.elapsed() >= INTERVAL);
        due.then(|| {
            self.last = Some(Instant::now());
            self.rest()
        })
    }

    /// Returns true once after losses, where the log should say that they are over.
    pub(crate) fn over(&mut self) -> bool {
        self.under_way && self.unsaid == 0 && {
            self.under_way = false;
            true
        }
    }

    /// Returns the losses that were not logged yet; they count as logged.
    pub(crate) fn rest(&mut self) -> u64 {
        std::mem::take(&mut self.unsaid)
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
