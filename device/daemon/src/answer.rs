//! One JSON line for every frame.

use serde::Serialize;

/// The line's schema; it changes when a field changes its meaning or goes.
pub(crate) const SCHEMA: &str = "clr.frame/1";

/// What is said about one frame.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<'a> {
    pub(crate) schema: &'static str,
    /// RFC 3339, UTC; of the system's clock, also where that stands before 1970.
    pub(crate) time: String,
    pub(crate) source: &'a str,
    /// The picture's name, or its number.
    pub(crate) frame: &'a str,
    /// `null` where no task is active, or none fits (`unknown` is true then).
    pub(crate) task: Option<&'a str>,
    pub(crate) version: Option<u64>,
    pub(crate) revision: Option<u32>,
    /// Whether the adapter is still on trial.
    pub(crate) trial: bool,
    /// Whether the task was chosen from the frame, and none fitted.
    pub(crate) unknown: bool,
    pub(crate) top: Vec<RankedLine<'a>>,
    /// Probability of the best class.
    pub(crate) confidence: Option<f32>,
    /// Milliseconds from the picture's last byte to the answer.
    pub(crate) latency_ms: f64,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RankedLine<'a> {
    pub(crate) label: &'a str,
    pub(crate) probability: f32,
}

impl Answer<'_> {
    /// Returns the line, with its line feed.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_else(|error| {
            // Numbers, texts and lists: there is nothing in an answer that JSON cannot hold.
            tracing::error!("cannot write an answer as JSON: {error}");
            b"{}".to_vec()
        });
        line.push(b'\n');
        line
    }
}
