//! What a device says about itself and its tasks. On the wire in postcard, for people and programs as JSON.

use alloc::{string::String, vec::Vec};

use clr_adapters::{Digest, Provenance};
use serde::{Deserialize, Serialize};

use crate::{failure::clipped, tuning::TuneStatus};

/// Most entries of a list within [`Status`].
const MAX_ENTRIES: usize = 16;
/// Longest text within [`Status`] and [`TaskSummary`], in bytes.
const MAX_TEXT: usize = 256;

/// What the device is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The device's name.
    pub device: String,
    /// Version of its software.
    pub software: String,
    /// The backbone that it runs.
    #[serde(with = "crate::digest_text")]
    pub backbone: Digest,
    /// The task that answers now.
    pub active_task: Option<String>,
    /// Whether the device chooses the task itself.
    pub auto: bool,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Frames of the source.
    pub frames: Frames,
    /// Time from a frame to its answer.
    pub latency: Latency,
    /// Memory.
    pub memory: Memory,
    /// Tasks on trial, at most 16.
    pub trials: Vec<TrialStatus>,
    /// The last reverts, newest first, at most 16.
    pub reverts: Vec<RevertReport>,
    /// Tuning, where the device can tune.
    pub tuning: Option<TuneStatus>,
}

/// Frames since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Answered.
    pub served: u64,
    /// Passed over because a newer one was there.
    pub dropped: u64,
    /// Unreadable, or without a finite answer.
    pub failed: u64,
}

/// Latency over the last frames, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub median_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// Frames that the two are taken over.
    pub frames: u32,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident set of the process, now.
    pub resident_bytes: u64,
    /// The same right after the start, with the backbone loaded and no task.
    pub resident_after_start_bytes: u64,
    /// Tasks held ready in memory.
    pub resident_tasks: u32,
    /// What these take.
    pub adapter_bytes: u64,
}

/// A task on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// The task.
    pub task: String,
    /// Version on trial.
    pub version: u64,
    /// Its revision.
    pub revision: u32,
    /// Frames that it has to serve yet.
    pub frames_left: u32,
}

/// An adapter that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertReport {
    /// The task.
    pub task: String,
    /// The version that was on trial.
    pub version: u64,
    /// Why.
    pub reason: String,
    /// When, in seconds since 1970 UTC, where the device has a clock.
    pub at: Option<u64>,
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TaskState {
    /// Serving what was confirmed.
    Confirmed,
    /// Serving a new adapter on trial.
    OnTrial {
        /// Frames that it has to serve yet.
        frames_left: u32,
    },
    /// Nothing to serve: the first adapter of the task was taken back.
    Empty,
}

/// One task of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The task.
    pub task: String,
    /// Number of labels.
    pub labels: u32,
    /// Version that serves.
    pub version: u64,
    /// How often it was tuned on the device since.
    pub revision: u32,
    /// The file that serves.
    #[serde(with = "crate::digest_text")]
    pub digest: Digest,
    /// Its size in bytes.
    pub file_bytes: u64,
    /// Whether it is the task that answers now.
    pub active: bool,
    /// How it stands.
    pub state: TaskState,
    /// Where it comes from.
    pub provenance: Provenance,
    /// The key that signed it, 64 hexadecimal digits; absent for an unsigned file.
    pub signer: Option<String>,
    /// Whether there is an earlier adapter to roll back to.
    pub has_last_good: bool,
    /// Whether the publisher's original is kept beside what the device tuned.
    pub has_original: bool,
    /// Why the last trial was taken back.
    pub last_revert: Option<String>,
}

pub(crate) fn clip(text: &mut String, cap: usize) {
    let length = clipped(text, cap).len();
    text.truncate(length);
}

impl Status {
    /// Brings lists and texts under their caps.
    pub(crate) fn clip(&mut self) {
        clip(&mut self.device, MAX_TEXT);
        clip(&mut self.software, MAX_TEXT);
        self.trials.truncate(MAX_ENTRIES);
        self.reverts.truncate(MAX_ENTRIES);
        for revert in &mut self.reverts {
            clip(&mut revert.reason, MAX_TEXT);
        }
        if let Some(tuning) = &mut self.tuning {
            tuning.clip();
        }
    }
}

impl TuneStatus {
    /// Brings texts under their caps.
    pub(crate) fn clip(&mut self) {
        for text in [&mut self.plan, &mut self.message].into_iter().flatten() {
            clip(text, MAX_TEXT);
        }
    }
}

impl TaskSummary {
    /// Brings texts under their caps.
    pub(crate) fn clip(&mut self) {
        if let Some(reason) = &mut self.last_revert {
            clip(reason, MAX_TEXT);
        }
    }
}
