//! Reopening of a lost source, with growing pauses.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use super::{POLL_INTERVAL, Send, SourceState, Stop};

/// Pause after the first loss; doubled after each failed attempt.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);
/// A session of at least this length resets the pause to [`FIRST`].
const STABLE: Duration = Duration::from_secs(10);

/// Reason why a session with an open source has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// The device is stopping, or the receiver of frames is closed.
    Ended,
    /// The source was lost, for this reason.
    Lost(String),
}

/// Runs sessions until one returns [`Session::Ended`]. `open` opens the source. `run` delivers frames, and calls
/// [`SourceState::up`] as soon as the source is known to work. A panic in either of them counts as a loss.
pub(super) fn keep_open<S>(
    stop: &Stop,
    state: &SourceState,
    send: &mut Send<'_>,
    mut open: impl FnMut() -> Result<S, String>,
    mut run: impl FnMut(S, &mut Send<'_>) -> Session,
) {
    let mut pause = FIRST;
    while !stop.is_set() {
        state.alive();
        let begun = Instant::now();
        let session = catch_unwind(AssertUnwindSafe(|| match open() {
            Ok(source) => run(source, send),
            Err(reason) => Session::Lost(reason),
        }));
        let reason = match session {
            Ok(Session::Ended) => return,
            Ok(Session::Lost(reason)) => reason,
            Err(_) => "reading it panicked".to_owned(),
        };
        state.lost(&reason);
        if begun.elapsed() >= STABLE {
            pause = FIRST;
        }
        let again = Instant::now() + pause;
        while !stop.is_set() && Instant::now() < again {
            thread::sleep(POLL_INTERVAL.min(again.saturating_duration_since(Instant::now())));
        }
        pause = (2 * pause).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_reopened_until_a_session_ends() {
        let (stop, state) = (Stop::default(), SourceState::default());
        state.start("test");
        let mut opened = 0;
        keep_open(
            &stop,
            &state,
            &mut |_| true,
            || {
                opened += 1;
                match opened {
                    1 => Err("not there yet".to_owned()),
                    2 => panic!("as a driver might"),
                    count => Ok(count),
                }
            },
            |count, _| {
                state.up();
                if count == 3 {
                    return Session::Lost("unplugged".to_owned());
                }
                Session::Ended
            },
        );
        assert_eq!(opened, 4);
        let report = state.report().unwrap();
        assert_eq!((report.losses, report.lost), (2, None));
    }

    #[test]
    fn a_device_that_stops_does_not_wait_for_a_lost_source() {
        let (stop, state) = (Stop::default(), SourceState::default());
        let begun = Instant::now();
        keep_open::<()>(
            &stop,
            &state,
            &mut |_| true,
            || {
                stop.set();
                Err("gone".to_owned())
            },
            |(), _| Session::Ended,
        );
        assert!(begun.elapsed() < STABLE);
    }
}
