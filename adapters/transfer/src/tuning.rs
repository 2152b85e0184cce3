//! Messages about tuning on the device.

use alloc::{borrow::ToOwned as _, string::String};

use serde::{Deserialize, Serialize};

/// Request to tune a task on its stored images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuneRequest {
    /// The task.
    pub task: String,
    /// Memory limit of tuning in bytes; `None` selects the device's budget.
    pub memory: Option<u64>,
    /// Maximum number of steps; `None` selects the device's default.
    pub steps: Option<u32>,
    /// Maximum duration in seconds; `None` selects the device's limit.
    pub seconds: Option<u32>,
}

impl TuneRequest {
    /// Returns a request with zero steps, which gives new classes a prototype immediately.
    #[must_use]
    pub fn prototype(task: &str) -> Self {
        Self {
            task: task.to_owned(),
            steps: Some(0),
            ..Self::default()
        }
    }
}

/// Parses a number of bytes for [`TuneRequest::memory`]. The suffixes `k`, `M` and `G` (powers of 1000) and a final `B`
/// are optional.
///
/// # Errors
/// A description of the expected form, if the text does not have it.
pub fn parse_bytes(text: &str) -> Result<u64, &'static str> {
    let plain = text.trim_end_matches(['b', 'B']);
    let (number, factor) = match plain.split_at_checked(plain.len().saturating_sub(1)) {
        Some((number, "k" | "K")) => (number, 1_000),
        Some((number, "M" | "m")) => (number, 1_000_000),
        Some((number, "G" | "g")) => (number, 1_000_000_000),
        _ => (text, 1),
    };
    let number = number.trim().parse::<u64>().ok();
    let bytes = number.and_then(|number| number.checked_mul(factor));
    bytes
        .filter(|&bytes| bytes > 0)
        .ok_or("expected a number of bytes, such as 300M")
}

/// Phase of tuning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TunePhase {
    /// No run was started since the device started.
    #[default]
    Idle,
    /// The run reads images and plans its memory.
    Preparing,
    /// The run trains.
    Running,
    /// The run compares its result with the serving adapter.
    Evaluating,
    /// The result was promoted and is serving on trial.
    Promoted,
    /// The result was not promoted, and nothing has changed.
    Kept,
    /// The run was stopped on request.
    Stopped,
    /// The run failed for the reason in the message.
    Failed,
}

impl TunePhase {
    /// Returns whether the run is still in progress.
    #[must_use]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Preparing | Self::Running | Self::Evaluating)
    }
}

/// Progress or result of tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuneStatus {
    /// The phase.
    pub phase: TunePhase,
    /// The task.
    pub task: Option<String>,
    /// Number of finished steps.
    pub step: u32,
    /// Number of planned steps.
    pub steps: u32,
    /// Loss of the last step, cross-entropy in nats.
    pub loss: Option<f32>,
    /// Description of the trained part of the adapter: the complete adapter, late sites, or the head.
    pub plan: Option<String>,
    /// Memory of the plan, in bytes.
    pub memory: Option<u64>,
    /// Accuracy of the parent adapter on held-out images (0–1).
    pub accuracy_before: Option<f32>,
    /// Accuracy of the result on held-out images (0–1).
    pub accuracy_after: Option<f32>,
    /// Seconds since the run began.
    pub seconds: u64,
    /// The reason for a failure or for no change.
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("300M"), Ok(300_000_000));
        assert_eq!(parse_bytes("2GB"), Ok(2_000_000_000));
        assert_eq!(parse_bytes("512"), Ok(512));
        assert!(parse_bytes("0").is_err() && parse_bytes("M").is_err() && parse_bytes("1.5G").is_err());
    }
}
