//! What is asked of and said about learning on the device.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// Asks the device to learn from the pictures that it holds for a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuneRequest {
    /// The task.
    pub task: String,
    /// The most memory that tuning may take, in bytes; the device's own budget where absent.
    pub memory: Option<u64>,
    /// The most steps; the device's own choice where absent.
    pub steps: Option<u32>,
    /// The most seconds; no limit where absent.
    pub seconds: Option<u32>,
}

/// What tuning is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TunePhase {
    /// Nothing was tuned since the device started.
    #[default]
    Idle,
    /// Reading the pictures, choosing what the memory allows.
    Preparing,
    /// Learning.
    Running,
    /// Comparing with what serves now.
    Evaluating,
    /// The result was better and serves on trial.
    Promoted,
    /// The result was not better; nothing changed.
    Kept,
    /// Stopped on request.
    Stopped,
    /// Failed; see the message.
    Failed,
}

/// How far tuning is, or how it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuneStatus {
    /// What it is doing.
    pub phase: TunePhase,
    /// The task.
    pub task: Option<String>,
    /// Steps done.
    pub step: u32,
    /// Steps planned.
    pub steps: u32,
    /// Loss of the last step, cross-entropy in nats.
    pub loss: Option<f32>,
    /// What is being trained, in words: the whole adapter, late sites, the head.
    pub plan: Option<String>,
    /// Memory that the plan takes, in bytes.
    pub memory: Option<u64>,
    /// Accuracy on the pictures held out, before (0–1).
    pub accuracy_before: Option<f32>,
    /// The same after.
    pub accuracy_after: Option<f32>,
    /// Seconds since it began.
    pub seconds: u64,
    /// Why it failed, or why nothing changed.
    pub message: Option<String>,
}
