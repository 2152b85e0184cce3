//! State of a task and its transitions.

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

/// An adapter in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAdapter {
    /// SHA-256 of the file, its name in the store.
    pub digest: Digest,
    /// The publisher's version.
    pub version: u64,
    /// Number of tunings on the device since that version; 0 for the publisher's file.
    pub revision: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether this device tuned it.
    pub tuned: bool,
}

/// An adapter on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnTrial {
    /// The adapter.
    pub held: StoredAdapter,
    /// Number of times that the program ended uncleanly while the adapter was in use.
    pub unclean: u32,
    /// Whether the adapter is in use. The flag is set before the adapter's first frame, and cleared when the program
    /// ends cleanly. If the flag is set when the program starts, the last run ended uncleanly.
    pub in_use: bool,
    /// The progress of the trial up to the last clean end.
    pub progress: Progress,
    /// The highest admitted version before this adapter. It is restored if the trial fails.
    pub highest_before: u64,
}

/// Progress of a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Number of classified frames.
    pub frames: u32,
    /// Number of classified frames that were slower than the trial's bound.
    pub slow: u32,
    /// Number of classified frames that had low confidence.
    pub low: u32,
}

/// The last adapter taken out of service, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reversion {
    /// The adapter.
    pub held: StoredAdapter,
    /// The reason, at most 512 bytes.
    pub reason: String,
    /// Time in seconds since 1970-01-01 UTC; `None` if the device did not know the time.
    pub at: Option<u64>,
}

/// A task as stored in its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTask {
    /// The task's name.
    pub task: String,
    /// The confirmed adapter, which serves unless another one is on trial.
    pub confirmed: Option<StoredAdapter>,
    /// The adapter on trial.
    pub trial: Option<OnTrial>,
    /// The adapter that served before the confirmed one.
    pub last_good: Option<StoredAdapter>,
    /// The publisher's original, kept while the confirmed or the last good adapter is tuned on the device.
    pub restore: Option<StoredAdapter>,
    /// The highest version ever admitted from a publisher, except for failed trials. A received file must have a higher
    /// version.
    pub highest_admitted: u64,
    /// The last adapter taken out of service.
    pub reverted: Option<Reversion>,
    /// Sequence number of the task's last confirmation among all confirmations of the store, from 1; 0 if there was
    /// none.
    pub confirmation: u64,
}

/// Maximum bytes of a reason.
const REASON_BYTES: usize = 512;

/// The operation does not apply to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nothing;

impl StoredTask {
    pub(crate) fn new(task: &str) -> Self {
        Self {
            task: task.to_owned(),
            confirmed: None,
            trial: None,
            last_good: None,
            restore: None,
            highest_admitted: 0,
            reverted: None,
            confirmation: 0,
        }
    }

    /// Puts an adapter on trial, in place of an earlier trial, and raises the highest admitted version.
    pub(crate) fn admit(&mut self, held: StoredAdapter) {
        let highest_before = self.highest_admitted;
        if !held.tuned {
            self.highest_admitted = self.highest_admitted.max(held.version);
        }
        self.trial = Some(OnTrial {
            held,
            unclean: 0,
            in_use: false,
            progress: Progress::default(),
            highest_before,
        });
    }

    /// Returns whether one of the task's adapters was tuned on this device.
    #[must_use]
    pub fn is_tuned(&self) -> bool {
        self.candidates().any(|held| held.tuned)
    }

    /// Returns the adapters that may serve, in order of preference.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = StoredAdapter> + use<> {
        let trial = self.trial.map(|trial| trial.held);
        let mut seen: Vec<StoredAdapter> = Vec::new();
        for held in [trial, self.confirmed, self.last_good, self.restore]
            .into_iter()
            .flatten()
        {
            if !seen.iter().any(|known| known.digest == held.digest) {
                seen.push(held);
            }
        }
        seen.into_iter()
    }

    /// Returns the task's adapter with this digest.
    pub(crate) fn holds(&self, digest: &Digest) -> Option<StoredAdapter> {
        self.candidates().find(|held| held.digest == *digest)
    }

    /// Confirms the adapter on trial. Set `keep_last_good` if the previously confirmed adapter is damaged, so that it
    /// does not become the last good one.
    pub(crate) fn confirm(&mut self, keep_last_good: bool) -> Result<StoredAdapter, Nothing> {
        let held = self.trial.take().ok_or(Nothing)?.held;
        let before = self.confirmed.replace(held);
        if held.tuned {
            if let Some(original) = before.filter(|before| !before.tuned) {
                self.restore = Some(original);
            }
        } else {
            self.highest_admitted = self.highest_admitted.max(held.version);
        }
        if !keep_last_good {
            self.last_good = before.filter(|before| before.digest != held.digest).or(self.last_good);
        }
        self.last_good = self.last_good.filter(|last_good| last_good.digest != held.digest);
        self.tidy();
        Ok(held)
    }

    /// Reverts the adapter on trial. This is the only transition that lowers the highest admitted version, and only if
    /// no higher version was admitted since.
    pub(crate) fn revert(&mut self, reason: &str, at: Option<u64>) -> Result<StoredAdapter, Nothing> {
        let OnTrial {
            held, highest_before, ..
        } = self.trial.take().ok_or(Nothing)?;
        if !held.tuned && self.highest_admitted == held.version {
            self.highest_admitted = highest_before;
        }
        self.note(held, reason, at);
        Ok(held)
    }

    /// Rolls back: ends the trial or, without a trial, exchanges the confirmed adapter and the last good one.
    pub(crate) fn roll_back(&mut self, reason: &str, at: Option<u64>) -> Result<StoredAdapter, Nothing> {
        if self.trial.is_some() {
            return self.revert(reason, at);
        }
        let (Some(confirmed), Some(last_good)) = (self.confirmed, self.last_good) else {
            return Err(Nothing);
        };
        (self.confirmed, self.last_good) = (Some(last_good), Some(confirmed));
        self.note(confirmed, reason, at);
        self.tidy();
        Ok(confirmed)
    }

    /// Rolls back like [`Self::roll_back`], but does not keep the adapter taken out of service.
    pub(crate) fn mark_bad(&mut self, reason: &str, at: Option<u64>) -> Result<StoredAdapter, Nothing> {
        if self.trial.is_some() {
            return self.revert(reason, at);
        }
        let (Some(confirmed), Some(better)) = (self.confirmed, self.last_good.or(self.restore)) else {
            return Err(Nothing);
        };
        (self.confirmed, self.last_good) = (Some(better), None);
        self.note(confirmed, reason, at);
        self.tidy();
        Ok(confirmed)
    }

    /// Restores the publisher's original. A tuned adapter on trial is dropped; a confirmed one becomes the last good
    /// one.
    pub(crate) fn restore(&mut self, reason: &str, at: Option<u64>) -> Result<StoredAdapter, Nothing> {
        let trial = self.trial.filter(|trial| trial.held.tuned && self.confirmed.is_some());
        let original = self
            .restore
            .filter(|_| self.confirmed.is_some_and(|confirmed| confirmed.tuned));
        let mut taken = None;
        if let Some(trial) = trial {
            self.trial = None;
            taken = Some(trial.held);
        }
        if let (Some(original), Some(tuned)) = (original, self.confirmed) {
            (self.confirmed, self.last_good) = (Some(original), Some(tuned));
            taken = Some(tuned);
        }
        let taken = taken.ok_or(Nothing)?;
        self.note(taken, reason, at);
        self.tidy();
        Ok(taken)
    }

    fn note(&mut self, held: StoredAdapter, reason: &str, at: Option<u64>) {
        let mut end = reason.len().min(REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason[..end].to_owned();
        self.reverted = Some(Reversion { held, reason, at });
    }

    /// Drops the restore point unless the confirmed or the last good adapter is tuned.
    fn tidy(&mut self) {
        let tuned = |held: &Option<StoredAdapter>| held.is_some_and(|held| held.tuned);
        if !tuned(&self.confirmed) && !tuned(&self.last_good) {
            self.restore = None;
        }
    }
}
