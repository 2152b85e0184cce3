//! Source state, shared with health and metrics: losses, their reason, and the age of the last frame.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::escape::one_line;

/// A lost source becomes a health fault after this time.
const GRACE: Duration = Duration::from_secs(5);

/// The source's thread counts as blocked in a system call, for example on an unreachable network disk, after this time
/// without activity.
const HUNG: Duration = Duration::from_secs(10);

/// Condition of the device's source. There is one instance for the lifetime of the process, and the source's thread
/// writes it.
#[derive(Debug, Default)]
pub(crate) struct SourceState {
    condition: Mutex<Condition>,
    frames: AtomicU64,
    losses: AtomicU64,
    lost_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Condition {
    name: String,
    started: Option<Instant>,
    last_frame: Option<Instant>,
    lost: Option<(Instant, String)>,
    /// Time of the last activity of the source's thread; `None` while it waits for the inference loop.
    alive: Option<Instant>,
}

impl Condition {
    /// Returns the start of the current loss, and its reason.
    fn lost(&self) -> Option<(Instant, String)> {
        let hung = self.alive.filter(|alive| alive.elapsed() >= HUNG);
        let reason = || "a read has not returned".to_owned();
        self.lost.clone().or_else(|| hung.map(|since| (since, reason())))
    }
}

/// Snapshot of a source's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceReport {
    /// Kind and path, e.g. `directory frames`.
    pub(crate) name: String,
    /// Duration and reason of the current loss.
    pub(crate) lost: Option<(Duration, String)>,
    /// Time since the last frame; before the first frame, time since the start.
    pub(crate) frame_age: Duration,
    /// Frames delivered.
    pub(crate) frames: u64,
    /// Number of losses.
    pub(crate) losses: u64,
    /// Bytes of a stream outside complete images.
    pub(crate) lost_bytes: u64,
}

impl SourceState {
    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the start of the source.
    pub(super) fn start(&self, name: &str) {
        let mut condition = self.condition();
        name.clone_into(&mut condition.name);
        condition.started = Some(Instant::now());
        condition.alive = condition.started;
    }

    /// Records activity of the source's thread.
    pub(super) fn alive(&self) {
        self.condition().alive = Some(Instant::now());
    }

    /// Records a frame. The source's thread then waits for the inference loop.
    pub(super) fn frame(&self) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        let mut condition = self.condition();
        condition.last_frame = Some(Instant::now());
        condition.alive = None;
    }

    /// Records a loss, which lasts until the source is reopened. It is logged once, not at every failed attempt.
    pub(super) fn lost(&self, reason: &str) {
        let mut condition = self.condition();
        let name = condition.name.clone();
        match &mut condition.lost {
            Some((_, known)) => {
                if known != reason {
                    tracing::debug!(source = name, "source still lost: {reason}");
                    reason.clone_into(known);
                }
            }
            lost @ None => {
                *lost = Some((Instant::now(), reason.to_owned()));
                self.losses.fetch_add(1, Ordering::Relaxed);
                drop(condition);
                tracing::warn!(source = name, "source lost: {reason}; reopened as soon as possible");
            }
        }
    }

    /// Records that the source works.
    pub(super) fn up(&self) {
        let (name, lost) = {
            let mut condition = self.condition();
            (condition.name.clone(), condition.lost.take())
        };
        if let Some((since, _)) = lost {
            tracing::info!(source = name, after_s = since.elapsed().as_secs(), "source is back");
        }
    }

    /// Adds bytes of a stream outside of complete images. Returns their total.
    pub(super) fn lose_bytes(&self, count: u64) -> u64 {
        self.lost_bytes.fetch_add(count, Ordering::Relaxed) + count
    }

    /// Returns the condition; `None` for a device without a source.
    pub(crate) fn report(&self) -> Option<SourceReport> {
        let condition = self.condition();
        let since = condition.last_frame.or(condition.started)?;
        Some(SourceReport {
            name: condition.name.clone(),
            lost: condition.lost().map(|(since, reason)| (since.elapsed(), reason)),
            frame_age: since.elapsed(),
            frames: self.frames.load(Ordering::Relaxed),
            losses: self.losses.load(Ordering::Relaxed),
            lost_bytes: self.lost_bytes.load(Ordering::Relaxed),
        })
    }

    /// Returns the reason of a loss that has lasted for at least [`GRACE`].
    pub(crate) fn fault(&self) -> Option<String> {
        let report = self.report()?;
        let (lost, reason) = report.lost.filter(|(lost, _)| *lost >= GRACE)?;
        let fault = format!("source lost for {} s: {}: {reason}", lost.as_secs(), report.name);
        Some(one_line(&fault).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_counted_once_and_its_latest_reason_kept() {
        let state = SourceState::default();
        assert_eq!(state.report(), None);
        state.start("directory frames");
        state.lost("it was removed");
        state.lost("no such folder");
        let report = state.report().unwrap();
        assert_eq!((report.losses, report.frames), (1, 0));
        assert_eq!(report.lost.unwrap().1, "no such folder");
        assert_eq!(state.fault(), None, "the source may recover immediately");
        state.up();
        state.frame();
        state.lost("again");
        assert_eq!(state.report().unwrap().losses, 2);
        state.up();
        assert_eq!(state.report().unwrap().lost, None);
    }

    #[test]
    fn a_loss_that_lasts_is_a_fault_with_its_reason() {
        let state = SourceState::default();
        state.start("directory frames");
        state.lost("it was removed");
        state.condition().lost.as_mut().unwrap().0 = Instant::now().checked_sub(GRACE).unwrap();
        let fault = state.fault().unwrap();
        state.up();
        assert_eq!(state.fault(), None);
        assert!(
            fault.contains("directory frames") && fault.contains("it was removed"),
            "{fault}"
        );
    }

    #[test]
    fn a_source_blocked_in_a_system_call_is_a_fault_and_one_waiting_for_inference_is_not() {
        let state = SourceState::default();
        state.start("directory frames");
        state.condition().alive = Instant::now().checked_sub(HUNG);
        assert!(state.fault().unwrap().contains("has not returned"));
        state.frame();
        assert_eq!(state.fault(), None);
        state.alive();
        assert_eq!(state.fault(), None);
    }
}
