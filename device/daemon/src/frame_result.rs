//! JSON line with the results of a frame.

use serde::Serialize;

use super::{classify::Classified, clock};

/// Schema of the line of one task. Its number increases when a field changes its meaning or is removed.
const SCHEMA: &str = "clr.frame/1";
/// Schema of the line of a group of tasks.
const GROUP_SCHEMA: &str = "clr.frame-group/1";

/// The data of a line that do not depend on the tasks.
#[derive(Debug)]
pub(crate) struct FrameHead<'a> {
    /// Time of the system clock, RFC 3339, UTC. The clock may be before 1970.
    time: String,
    source: &'a str,
    /// The image's name, or its number.
    frame: &'a str,
    /// Milliseconds from the arrival of the image's last byte to the last result.
    latency_ms: f64,
}

/// The result of one frame with one task, selected manually or automatically.
#[derive(Debug, Serialize)]
struct FrameResult<'a> {
    schema: &'static str,
    time: String,
    source: &'a str,
    frame: &'a str,
    /// The task; `null` if none is active or if none fits. In the latter case `unknown` is true.
    task: Option<&'a str>,
    version: Option<u64>,
    revision: Option<u32>,
    trial: bool,
    /// Whether the automatic choice found no fitting task.
    unknown: bool,
    top: Vec<RankedLine<'a>>,
    confidence: Option<f32>,
    latency_ms: f64,
    /// The reason for a missing result.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The results of one frame with a group of tasks.
#[derive(Debug, Serialize)]
struct GroupResult<'a> {
    schema: &'static str,
    time: String,
    source: &'a str,
    frame: &'a str,
    /// One result per task of the group, in its order.
    tasks: Vec<TaskResult<'a>>,
    latency_ms: f64,
}

/// The result of one task.
#[derive(Debug, Default, Serialize)]
pub(crate) struct TaskResult<'a> {
    task: &'a str,
    /// Version of the adapter; `null` without a result.
    version: Option<u64>,
    /// Number of tunings on the device since that version; `null` without a result.
    revision: Option<u32>,
    /// Whether the adapter is still on trial.
    pub(crate) trial: bool,
    top: Vec<RankedLine<'a>>,
    /// Probability of the best class.
    pub(crate) confidence: Option<f32>,
    /// The reason for a missing result.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct RankedLine<'a> {
    label: &'a str,
    probability: f32,
}

impl<'a> TaskResult<'a> {
    /// Returns the result of a classification with its `top_k` best classes.
    pub(crate) fn of(classified: &'a Classified, top_k: usize) -> Self {
        let adapter = &classified.adapter;
        let top = classified.classification.top(top_k);
        Self {
            task: adapter.task(),
            version: Some(adapter.version()),
            revision: Some(adapter.revision()),
            confidence: top.first().map(|best| best.probability),
            top: (top.into_iter())
                .map(|ranked| RankedLine {
                    label: ranked.label,
                    probability: ranked.probability,
                })
                .collect(),
            ..Self::default()
        }
    }

    /// Returns the result of a task that has none.
    pub(crate) fn failed(task: &'a str, error: &'a str) -> Self {
        Self {
            task,
            error: Some(error),
            ..Self::default()
        }
    }
}

impl<'a> FrameHead<'a> {
    pub(crate) fn new(source: &'a str, frame: &'a str, milliseconds: f64) -> Self {
        Self {
            time: clock::now(),
            source,
            frame,
            latency_ms: (milliseconds * 1e3).round() / 1e3,
        }
    }

    /// Returns the line of one task.
    pub(crate) fn single(self, result: TaskResult<'a>) -> Vec<u8> {
        let empty = self.empty();
        line(&FrameResult {
            task: Some(result.task),
            version: result.version,
            revision: result.revision,
            trial: result.trial,
            top: result.top,
            confidence: result.confidence,
            ..empty
        })
    }

    /// Returns the line of a frame that fits no task.
    pub(crate) fn unknown(self) -> Vec<u8> {
        line(&FrameResult {
            unknown: true,
            ..self.empty()
        })
    }

    /// Returns the line of a frame without a result.
    pub(crate) fn failed(self, error: &'a str) -> Vec<u8> {
        line(&FrameResult {
            error: Some(error),
            ..self.empty()
        })
    }

    /// Returns the line of a group of tasks.
    pub(crate) fn group(self, tasks: Vec<TaskResult<'a>>) -> Vec<u8> {
        line(&GroupResult {
            schema: GROUP_SCHEMA,
            time: self.time,
            source: self.source,
            frame: self.frame,
            tasks,
            latency_ms: self.latency_ms,
        })
    }

    fn empty(self) -> FrameResult<'a> {
        FrameResult {
            schema: SCHEMA,
            time: self.time,
            source: self.source,
            frame: self.frame,
            task: None,
            version: None,
            revision: None,
            trial: false,
            unknown: false,
            top: Vec::new(),
            confidence: None,
            latency_ms: self.latency_ms,
            error: None,
        }
    }
}

/// Returns a result as a line of JSON, with its line feed.
fn line(result: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(result).unwrap_or_else(|error| {
        // Unreachable, because all fields can be represented in JSON.
        tracing::error!("cannot write a result as JSON: {error}");
        b"{}".to_vec()
    });
    line.push(b'\n');
    line
}
