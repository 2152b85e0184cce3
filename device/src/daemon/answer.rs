//! One JSON line for every frame.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use serde::Serialize;

/// The line's schema; it changes when a field changes its meaning or goes.
pub(crate) const SCHEMA: &str = "clr.frame/1";

/// What is said about one frame.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<'a> {
    pub(crate) schema: &'static str,
    /// RFC 3339, UTC.
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

/// The time of an answer.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Writes the line, whole, and flushes it.
pub(crate) fn write(output: &mut dyn Write, answer: &Answer<'_>) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}
