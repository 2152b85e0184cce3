//! Inference loop: takes the newest frame and classifies it with the selected tasks. It never waits for anything else.

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use super::{
    Received,
    classify::{Classified, NoResult, Outcome, classify, revert},
    frame_result::{FrameHead, TaskResult},
    lock,
    output::ResultQueue,
    runtime::Runtime,
    source::{Frame, Source},
    trial::{Observation, TrialVerdict},
};
use clr_engine::{ChooserOptions, ResidentAdapter, TaskChooser};

/// Maximum wait for a frame. After it, the loop feeds the watchdog and checks whether the device is stopping.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Disk writes that the inference loop passes on to the writer thread.
#[derive(Debug)]
pub(crate) enum WriteJob {
    /// Confirm an adapter that passed its trial.
    Confirm(Arc<ResidentAdapter>),
    /// Store a frame of a task, with which tuning evaluates its candidates.
    StoreFrame { task: String, bytes: Vec<u8> },
}

/// Bounded queue to the writer thread. If the queue is full, the job is dropped; for a confirmation, the next frame
/// queues it again.
pub(crate) type WriteQueue = mpsc::SyncSender<WriteJob>;

/// Reason for the end of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The device was asked to stop.
    Stopped,
    /// The source delivers no more frames.
    OutOfFrames,
    /// The reader of the results is gone.
    ReaderGone,
}

/// Runs until the source ends, the device stops, or the reader of the results closes the pipe. Calls `tick` at least
/// once per [`POLL_INTERVAL`], unless a frame takes longer.
pub(crate) fn run(
    runtime: &Runtime,
    source: Option<&Source>,
    results: &ResultQueue,
    writes: &WriteQueue,
    tick: &mut dyn FnMut(),
) -> Ended {
    let options = ChooserOptions::default().with_false_alarms(runtime.config.load().false_alarms);
    let mut chooser = TaskChooser::new(options);
    while !runtime.stop.is_set() {
        *lock(&runtime.counters.alive) = Some(Instant::now());
        tick();
        if results.reader_gone() {
            return Ended::ReaderGone;
        }
        let Some(source) = source else {
            std::thread::sleep(POLL_INTERVAL);
            continue;
        };
        match source.frames.receive(POLL_INTERVAL) {
            Received::Nothing => {}
            // A source also closes when the device stops.
            Received::Closed if runtime.stop.is_set() => break,
            Received::Closed => return Ended::OutOfFrames,
            Received::Frame(frame) => {
                serve(runtime, &mut chooser, &source.name, &frame, results, writes);
                runtime
                    .counters
                    .dropped
                    .store(source.frames.dropped(), Ordering::Relaxed);
                if let Some(path) = &frame.delete
                    && let Err(error) = std::fs::remove_file(path)
                {
                    tracing::warn!(path = %path.display(), "cannot delete image: {error}");
                }
            }
        }
    }
    Ended::Stopped
}

/// A task's result on a frame, after it was counted towards the task's trial.
struct Counted<'a> {
    adapter: &'a Arc<ResidentAdapter>,
    verdict: Option<TrialVerdict>,
}

fn serve(
    runtime: &Runtime,
    chooser: &mut TaskChooser,
    source: &str,
    frame: &Frame,
    results: &ResultQueue,
    writes: &WriteQueue,
) {
    let counters = &runtime.counters;
    let outcome = classify(runtime, chooser, frame);
    let milliseconds = frame.arrived.elapsed().as_secs_f64() * 1e3;
    let head = FrameHead::new(source, &frame.name, milliseconds);
    let mut counted = Vec::new();
    let mut count = |classified| {
        let (result, of_task) = count_towards_trial(runtime, classified, milliseconds);
        counted.push(of_task);
        result
    };
    let (line, failed) = match &outcome {
        Outcome::Single(Ok(classified)) => (head.single(count(classified)), false),
        Outcome::Single(Err(NoResult::Unknown)) => (head.unknown(), false),
        Outcome::Single(Err(NoResult::Failed(error))) => (head.failed(error), true),
        Outcome::Group(outcomes) => {
            let tasks = outcomes.iter().map(|outcome| match &outcome.result {
                Ok(classified) => count(classified),
                Err(error) => TaskResult::failed(&outcome.task, error),
            });
            let line = head.group(tasks.collect());
            (line, outcomes.iter().any(|outcome| outcome.result.is_err()))
        }
    };
    results.send(line);

    // A frame for which only some tasks of a group have a result counts as both.
    if failed {
        counters.failed.fetch_add(1, Ordering::Relaxed);
    }
    if failed && counted.is_empty() {
        return;
    }
    counters.served.fetch_add(1, Ordering::Relaxed);
    lock(&counters.latencies).push(milliseconds as f32);
    for task in counted {
        conclude(runtime, frame, task, writes);
    }
}

/// Counts a frame towards the trial of its adapter before its result is written, so that a client which reads the
/// result and then queries the status sees it counted. The verdict is applied afterwards.
fn count_towards_trial<'a>(
    runtime: &Runtime,
    classified: &'a Classified,
    frame_ms: f64,
) -> (TaskResult<'a>, Counted<'a>) {
    let mut result = TaskResult::of(classified, runtime.config.load().top_k);
    let verdict = runtime.observe(
        &classified.adapter,
        Observation {
            milliseconds: classified.alone_ms.unwrap_or(frame_ms) as f32,
            confidence: result.confidence.unwrap_or(0.0),
        },
    );
    result.trial = verdict.is_some();
    let adapter = &classified.adapter;
    (result, Counted { adapter, verdict })
}

/// Counts a result by task, stores the frame for tuning if it is due, and applies the verdict of the trial.
fn conclude(runtime: &Runtime, frame: &Frame, task: Counted<'_>, writes: &WriteQueue) {
    let counters = &runtime.counters;
    let Counted { adapter, verdict } = task;
    {
        let mut by_task = lock(&counters.by_task);
        match by_task.get_mut(adapter.task()) {
            Some(count) => *count += 1,
            None => _ = by_task.insert(adapter.task().to_owned(), 1),
        }
    }
    let interval = runtime.config.load().tuning.frame_interval;
    if counters.served.load(Ordering::Relaxed).is_multiple_of(interval) && runtime.wants_frame(adapter.task()) {
        let (task, bytes) = (adapter.task().to_owned(), frame.bytes.clone());
        let _ = writes.try_send(WriteJob::StoreFrame { task, bytes });
    }
    match verdict {
        None | Some(TrialVerdict::Continue) => {}
        Some(TrialVerdict::Confirm) => _ = writes.try_send(WriteJob::Confirm(Arc::clone(adapter))),
        Some(TrialVerdict::Revert(reason)) => revert(runtime, adapter, &reason),
    }
}
