//! Status of a device and its tasks, encoded as postcard on the wire and as JSON on the host.

use alloc::{string::String, vec::Vec};

use clr_adapters::{Digest, Provenance};
use serde::{Deserialize, Serialize};

use crate::{failure::clipped, tuning::TuneStatus};

/// Maximum entries of a list in [`Status`].
const MAX_ENTRIES: usize = 16;
/// Maximum bytes of a text in [`Status`] and [`TaskSummary`].
const MAX_TEXT: usize = 256;

/// Status of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The device's name.
    pub device: String,
    /// Version of the device's software.
    pub software: String,
    /// Digest of the device's backbone.
    #[serde(with = "crate::digest_text")]
    pub backbone: Digest,
    /// The active task.
    pub active_task: Option<String>,
    /// Whether the device selects the task itself.
    pub auto: bool,
    /// Seconds since the device started.
    pub uptime_seconds: u64,
    /// Frames of the source.
    pub frames: Frames,
    /// Time from a frame to its result.
    pub latency: Latency,
    /// Memory.
    pub memory: Memory,
    /// Tasks on trial, at most 16.
    pub trials: Vec<TrialStatus>,
    /// The last reverts, newest first, at most 16.
    pub reverts: Vec<RevertReport>,
    /// Status of tuning, if the device supports it.
    pub tuning: Option<TuneStatus>,
}

/// Frames since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Number of classified frames.
    pub served: u64,
    /// Number of frames dropped because a newer one had arrived.
    pub dropped: u64,
    /// Number of frames that were unreadable or had no finite result.
    pub failed: u64,
}

/// Latency of the latest frames, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub median_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// Number of frames measured.
    pub frames: u32,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Current resident memory of the process.
    pub resident_bytes: u64,
    /// Resident memory after the start, with the backbone loaded and no task.
    pub resident_after_start_bytes: u64,
    /// Number of tasks whose adapters are in memory.
    pub resident_tasks: u32,
    /// Bytes of these adapters.
    pub adapter_bytes: u64,
}

/// A task on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// The task.
    pub task: String,
    /// Version of the adapter on trial.
    pub version: u64,
    /// Revision of the adapter on trial.
    pub revision: u32,
    /// Number of frames until the adapter is confirmed.
    pub frames_left: u32,
}

/// A reverted adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertReport {
    /// The task.
    pub task: String,
    /// The version that was on trial.
    pub version: u64,
    /// The reason.
    pub reason: String,
    /// Time in seconds since 1970-01-01 UTC; `None` if the device did not know the time.
    pub at: Option<u64>,
}

/// State of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TaskState {
    /// The task serves the confirmed adapter.
    Confirmed,
    /// The task serves a new adapter on trial.
    OnTrial {
        /// Number of frames until the adapter is confirmed.
        frames_left: u32,
    },
    /// The task has no adapter to serve, because its first one was reverted.
    Empty,
}

/// Summary of one task of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The task.
    pub task: String,
    /// Number of labels.
    pub labels: u32,
    /// Version of the serving adapter.
    pub version: u64,
    /// Number of tunings on the device since that version.
    pub revision: u32,
    /// Digest of the serving file.
    #[serde(with = "crate::digest_text")]
    pub digest: Digest,
    /// Size of the serving file in bytes.
    pub file_bytes: u64,
    /// Whether the task is active.
    pub active: bool,
    /// State of the task.
    pub state: TaskState,
    /// Provenance of the serving adapter.
    pub provenance: Provenance,
    /// The signer's public key as 64 hexadecimal digits; absent for an unsigned file.
    pub signer: Option<String>,
    /// Whether the task has an earlier adapter to roll back to.
    pub has_last_good: bool,
    /// Whether the device keeps the publisher's original of a tuned adapter.
    pub has_original: bool,
    /// Reason for the last reversion.
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
