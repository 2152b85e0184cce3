//! Time used for expiry: the system clock, but never below a known minimum.
//!
//! A board without a battery starts in 1970, and a process with access to the clock can set it back. Neither may make
//! an expired file valid again. The time is therefore the maximum of the system clock and a *floor*:
//!
//! - the date of the program's build,
//! - the creation date of a confirmed adapter, as signed by its publisher,
//! - the highest time of the system clock that is recorded in the store. It is recorded at the start and at a clean end
//!   if it has increased by an hour, once a day, and whenever a file is refused as expired.
//!
//! A clock that jumps to the far future must not block updates indefinitely. The system clock therefore raises the
//! floor by at most [`TRUSTED`] beyond the first two items, which the clock of this device cannot change. The clock
//! itself is used without this limit.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clr_adapters::{Header, Refusal};
use clr_store::{Store, StoreError};

use super::lock;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Time between two checks of the clock.
const TICK: Duration = Duration::from_mins(10);
/// Time beyond the first two items up to which the system clock may raise the floor.
const TRUSTED: u64 = 3 * 365 * DAY;
/// Time after the build up to which a publisher's date is used, because the publisher's clock may be wrong too.
const PLAUSIBLE: u64 = 10 * 365 * DAY;

/// The floor of the process.
static FLOOR: AtomicU64 = AtomicU64::new(0);
/// A time that has certainly passed, in seconds since 1970.
static CERTAIN: AtomicU64 = AtomicU64::new(0);

/// Returns the time of the build, in seconds since 1970.
fn built() -> u64 {
    env!("CLR_BUILT").parse().unwrap_or(0)
}

/// Returns the system clock in seconds since 1970; 0 for times before 1970.
fn system() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn certain() -> u64 {
    CERTAIN.load(Ordering::Relaxed).max(built())
}

/// Returns the system time, limited to how far it may raise the floor.
fn limited(system: u64, certain: u64) -> u64 {
    system.min(certain.saturating_add(TRUSTED)).max(certain)
}

/// Returns the time used for expiry, in seconds since 1970-01-01 UTC. It is never below the floor, so it is always
/// known.
#[expect(clippy::unnecessary_wraps, reason = "the store's functions take an optional time")]
pub(crate) fn now() -> Option<u64> {
    Some(system().max(FLOOR.load(Ordering::Relaxed)).max(certain()))
}

/// Returns the time to store in a record; `None` if the clock has never been set.
pub(crate) fn stamp() -> Option<u64> {
    let known = system().max(FLOOR.load(Ordering::Relaxed));
    (known >= built()).then_some(known)
}

/// Returns by how many seconds the system clock is behind the known minimum; `None` if it is not behind.
pub(crate) fn behind() -> Option<u64> {
    now()?.checked_sub(system()).filter(|&seconds| seconds > 0)
}

/// Records that a publisher's adapter was confirmed, so its creation date has passed.
pub(crate) fn confirmed(header: &Header) {
    let created = header.metrics.as_ref().map_or(0, |metrics| metrics.created);
    CERTAIN.fetch_max(created.min(built().saturating_add(PLAUSIBLE)), Ordering::Relaxed);
}

/// Reads the recorded floor. Called when the confirmed adapters are known.
pub(crate) fn start(store: &Store) {
    let recorded = store.time_floor().unwrap_or(0);
    FLOOR.fetch_max(recorded, Ordering::Relaxed);
    let (clock, floor) = (system(), recorded.max(certain()));
    if clock < floor {
        tracing::warn!(
            clock,
            floor,
            "the clock is behind the latest known time, which is used for expiry instead"
        );
    }
    note(store, HOUR);
}

/// Records the time if it is more than `least` seconds later than the recorded one.
fn note(store: &Store, least: u64) {
    let time = limited(system(), certain());
    FLOOR.fetch_max(time, Ordering::Relaxed);
    let recorded = store.time_floor().unwrap_or(0);
    if time > recorded.saturating_add(least)
        && let Err(error) = store.raise_time_floor(time)
    {
        tracing::warn!("cannot record the time: {error}");
    }
}

/// Records the time once a day. A failed write is not repeated before the next check.
pub(crate) fn tick(store: &Store) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = lock(&LAST);
    if last.is_none_or(|last| last.elapsed() >= TICK) {
        *last = Some(Instant::now());
        note(store, DAY);
    }
}

/// Records the time at a clean end.
pub(crate) fn stop(store: &Store) {
    note(store, HOUR);
}

/// Records the time at which a file was refused as expired, once per date. The file then stays refused even if the
/// clock is set back.
pub(crate) fn note_expiry(store: &Store, error: &StoreError) {
    if let StoreError::Refused(Refusal::Expired { expires, .. }) = error
        && store.time_floor().is_none_or(|recorded| recorded < *expires)
    {
        note(store, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_the_far_future_raises_the_floor_by_three_years_and_no_more() {
        let certain = 1_800_000_000;
        assert_eq!(limited(certain + DAY, certain), certain + DAY);
        assert_eq!(limited(u64::MAX, certain), certain + TRUSTED);
        assert_eq!(limited(0, certain), certain, "a clock in 1970 does not lower it");
    }

    #[test]
    fn the_time_is_never_before_the_build() {
        assert!(built() > 1_735_689_600, "{}", built());
        assert!(now().unwrap() >= built());
    }
}
