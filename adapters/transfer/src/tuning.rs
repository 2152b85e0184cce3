//! What is asked of and said about learning on the device.

use alloc::{borrow::ToOwned as _, string::String};

use serde::{Deserialize, Serialize};

/// Asks the device to learn from the images that it holds for a task.
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

impl TuneRequest {
    /// A run without steps: a class that is new answers at once, by a prototype.
    #[must_use]
    pub fn prototype(task: &str) -> Self {
        Self {
            task: task.to_owned(),
            steps: Some(0),
            ..Self::default()
        }
    }
}

/// A number of bytes as a person writes it, for [`TuneRequest::memory`]: with `k`, `M` or `G` behind it as powers of 1000, and perhaps a `B`.
///
/// # Errors
/// What was expected.
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

/// What tuning is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TunePhase {
    /// Nothing was tuned since the device started.
    #[default]
    Idle,
    /// Reading the images, choosing what the memory allows.
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

impl TunePhase {
    /// Whether it has not ended yet.
    #[must_use]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Preparing | Self::Running | Self::Evaluating)
    }
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
    /// Accuracy on the images held out, before (0–1).
    pub accuracy_before: Option<f32>,
    /// The same after.
    pub accuracy_after: Option<f32>,
    /// Seconds since it began.
    pub seconds: u64,
    /// Why it failed, or why nothing changed.
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
