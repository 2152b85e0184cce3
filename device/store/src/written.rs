//! Counters of bytes written on behalf of peers, and the daily budget for announced uploads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

const DAY: Duration = Duration::from_hours(24);

/// Bytes written on behalf of peers since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Bytes of pieces of announced uploads, frame heads included.
    pub uploads: u64,
    /// Bytes of adapters that were verified and installed.
    pub adapters: u64,
    /// Bytes of examples.
    pub examples: u64,
}

/// Counters for [`Written`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) uploads: AtomicU64,
    pub(crate) adapters: AtomicU64,
    pub(crate) examples: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Written {
        Written {
            uploads: self.uploads.load(Ordering::Relaxed),
            adapters: self.adapters.load(Ordering::Relaxed),
            examples: self.examples.load(Ordering::Relaxed),
        }
    }
}

/// Bytes of announced uploads in the current 24 hours, which begin with the first upload. A restart resets the count.
#[derive(Default)]
pub(crate) struct Day {
    began: Option<Instant>,
    bytes: u64,
}

impl Day {
    /// Returns whether `bytes` more are within the daily budget.
    pub(crate) fn has_room(&mut self, bytes: u64, budget: u64, now: Instant) -> bool {
        if self
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= DAY)
        {
            *self = Self {
                began: Some(now),
                bytes: 0,
            };
        }
        self.bytes.saturating_add(bytes) <= budget
    }

    pub(crate) fn count(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_for_a_day() {
        let (mut day, start) = (Day::default(), Instant::now());
        assert!(day.has_room(100, 100, start));
        day.count(60);
        assert!(day.has_room(40, 100, start) && !day.has_room(41, 100, start));
        assert!(!day.has_room(41, 100, start + Duration::from_hours(23)));
        assert!(day.has_room(100, 100, start + Duration::from_hours(24)));
        assert!(!day.has_room(u64::MAX, 100, start));
    }
}
