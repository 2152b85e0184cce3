//! JSON line with the result of a frame.

use serde::Serialize;

/// Schema of the line. Its number increases when a field changes its meaning or is removed.
pub(crate) const SCHEMA: &str = "clr.frame/1";

/// The result of one frame.
#[derive(Debug, Serialize)]
pub(crate) struct FrameResult<'a> {
    pub(crate) schema: &'static str,
    /// Time of the system clock, RFC 3339, UTC. The clock may be before 1970.
    pub(crate) time: String,
    pub(crate) source: &'a str,
    /// The image's name, or its number.
    pub(crate) frame: &'a str,
    /// The task; `null` if none is active or if none fits. In the latter case `unknown` is true.
    pub(crate) task: Option<&'a str>,
    pub(crate) version: Option<u64>,
    pub(crate) revision: Option<u32>,
    /// Whether the adapter is still on trial.
    pub(crate) trial: bool,
    /// Whether the automatic choice found no fitting task.
    pub(crate) unknown: bool,
    pub(crate) top: Vec<RankedLine<'a>>,
    /// Probability of the best class.
    pub(crate) confidence: Option<f32>,
    /// Milliseconds from the arrival of the image's last byte to the result.
    pub(crate) latency_ms: f64,
    /// The reason for a missing result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RankedLine<'a> {
    pub(crate) label: &'a str,
    pub(crate) probability: f32,
}

impl FrameResult<'_> {
    /// Returns the line, with its line feed.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_else(|error| {
            // Unreachable, because all fields can be represented in JSON.
            tracing::error!("cannot write a result as JSON: {error}");
            b"{}".to_vec()
        });
        line.push(b'\n');
        line
    }
}
