//! The time as the device judges it: the system's clock, but never below what is known to have passed.
//!
//! A board without a battery starts in 1970, and a process with access to the clock can set it back; a file that has expired must not be taken again for
//! that. So the judged time is the highest of the system's clock and a *floor*:
//!
//! - the date of the program's build,
//! - the date at which a confirmed adapter was made, as its publisher signed it,
//! - the highest time of the system's clock that was noted in the store: at the start and once a day where it gained an hour, at a clean end,
//!   and whenever a file was refused as expired.
//!
//! A clock that jumps into the far future must not lock a device indefinitely. So the system's clock raises the floor by at most [`TRUSTED`] beyond
//! the first two, which no clock of this device can change. A clock that is right is judged by as it is, however far that goes.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clr_adapters::{Header, Refusal};
use clr_store::StoreError;

use super::runtime::{Runtime, lock};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Between two looks at the clock.
const TICK: Duration = Duration::from_mins(10);
/// How far beyond what is certain the system's clock may raise the floor.
const TRUSTED: u64 = 3 * 365 * DAY;
/// How far beyond the build a publisher's date is believed: its clock may be wrong as well.
const PLAUSIBLE: u64 = 10 * 365 * DAY;

/// The process has one clock, and so one floor.
static FLOOR: AtomicU64 = AtomicU64::new(0);
/// What is certain to have passed.
static CERTAIN: AtomicU64 = AtomicU64::new(0);

/// When this program was built, in seconds since 1970.
fn built() -> u64 {
    env!("CLR_BUILT").parse().unwrap_or(0)
}

/// The system's clock; 0 before 1970.
fn system() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn certain() -> u64 {
    CERTAIN.load(Ordering::Relaxed).max(built())
}

/// What the system's clock may raise the floor to now.
fn believed(system: u64, certain: u64) -> u64 {
    system.min(certain.saturating_add(TRUSTED)).max(certain)
}

/// Seconds since 1970 UTC, by which expiry is judged. Never below the floor, so it is always known.
#[expect(clippy::unnecessary_wraps, reason = "a store takes a time that may not be known")]
pub(crate) fn now() -> Option<u64> {
    Some(system().max(FLOOR.load(Ordering::Relaxed)).max(certain()))
}

/// The time for a record of what happened: nothing while the clock was never set.
pub(crate) fn stamp() -> Option<u64> {
    let known = system().max(FLOOR.load(Ordering::Relaxed));
    (known >= built()).then_some(known)
}

/// Seconds by which the system's clock is behind what is known to have passed; `None` if it is not.
pub(crate) fn behind() -> Option<u64> {
    now()?.checked_sub(system()).filter(|&seconds| seconds > 0)
}

/// An adapter of a publisher is confirmed: the time at which it was made has passed.
pub(crate) fn confirmed(header: &Header) {
    let created = header.metrics.as_ref().map_or(0, |metrics| metrics.created);
    CERTAIN.fetch_max(created.min(built().saturating_add(PLAUSIBLE)), Ordering::Relaxed);
}

impl Runtime {
    /// Takes up the floor that was noted. Called once the confirmed adapters are known.
    pub(crate) fn start_clock(&self) {
        let noted = self.store.time_floor().unwrap_or(0);
        FLOOR.fetch_max(noted, Ordering::Relaxed);
        let (clock, floor) = (system(), noted.max(certain()));
        if clock < floor {
            tracing::warn!(
                clock,
                floor,
                "the clock is behind what is known to have passed; expiry is judged by the latter"
            );
        }
        self.note_time(HOUR);
    }

    /// Notes the time if it gained `least` seconds on what was noted, or if it has gone on by a day.
    pub(crate) fn note_time(&self, least: u64) {
        let time = believed(system(), certain());
        FLOOR.fetch_max(time, Ordering::Relaxed);
        let noted = self.store.time_floor().unwrap_or(0);
        if time > noted.saturating_add(least)
            && let Err(error) = self.store.raise_time_floor(time)
        {
            tracing::warn!("the time cannot be noted: {error}");
        }
    }

    /// As time goes by. A disk that does not take the time is not asked every moment.
    pub(crate) fn tick_clock(&self) {
        static LAST: Mutex<Option<Instant>> = Mutex::new(None);
        let mut last = lock(&LAST);
        if last.is_none_or(|last| last.elapsed() >= TICK) {
            *last = Some(Instant::now());
            self.note_time(DAY);
        }
    }

    /// The end is a clean one.
    pub(crate) fn stop_clock(&self) {
        self.note_time(HOUR);
    }

    /// A file that was refused as expired stays refused, whatever becomes of the clock. It is noted once for each date.
    pub(crate) fn note_expiry(&self, error: &StoreError) {
        if let StoreError::Refused(Refusal::Expired { expires, .. }) = error
            && self.store.time_floor().is_none_or(|noted| noted < *expires)
        {
            self.note_time(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_the_far_future_raises_the_floor_by_three_years_and_no_more() {
        let certain = 1_800_000_000;
        assert_eq!(believed(certain + DAY, certain), certain + DAY);
        assert_eq!(believed(u64::MAX, certain), certain + TRUSTED);
        assert_eq!(believed(0, certain), certain, "and one in 1970 does not lower it");
    }

    #[test]
    fn the_time_is_never_before_the_build() {
        assert!(built() > 1_735_689_600, "{}", built());
        assert!(now().unwrap() >= built());
    }
}
