//! Inference loop: takes the newest frame and classifies it with the active task. It never waits for anything else.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use super::{
    Received, clock,
    error::with_causes,
    frame_result::{self, FrameResult, RankedLine},
    lock,
    output::ResultQueue,
    runtime::Runtime,
    source::{Frame, Source},
    trial::{Observation, TrialVerdict},
};
use clr_engine::{ChoiceStatus, ChooserOptions, Classification, EngineError, ImagePass, ResidentAdapter, TaskChooser};

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
    let mut chooser = TaskChooser::new(ChooserOptions::default());
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

fn serve(
    runtime: &Runtime,
    chooser: &mut TaskChooser,
    source: &str,
    frame: &Frame,
    results: &ResultQueue,
    writes: &WriteQueue,
) {
    let counters = &runtime.counters;
    let mut line = FrameResult {
        schema: frame_result::SCHEMA,
        time: clock::now(),
        source,
        frame: &frame.name,
        task: None,
        version: None,
        revision: None,
        trial: false,
        unknown: false,
        top: Vec::new(),
        confidence: None,
        latency_ms: 0.0,
        error: None,
    };
    let classified = classify(runtime, chooser, frame);
    let milliseconds = frame.arrived.elapsed().as_secs_f64() * 1e3;
    line.latency_ms = (milliseconds * 1e3).round() / 1e3;
    let (adapter, classification) = match &classified {
        Ok(classified) => classified,
        Err(NoResult::Unknown) => {
            line.unknown = true;
            counters.served.fetch_add(1, Ordering::Relaxed);
            lock(&counters.latencies).push(milliseconds as f32);
            return results.send(line.line());
        }
        Err(NoResult::Failed(error)) => {
            line.error = Some(error.clone());
            counters.failed.fetch_add(1, Ordering::Relaxed);
            return results.send(line.line());
        }
    };
    line.task = Some(adapter.task());
    line.version = Some(adapter.version());
    line.revision = Some(adapter.revision());
    let top = classification.top(runtime.config.load().top_k);
    line.confidence = top.first().map(|best| best.probability);
    line.top = top
        .iter()
        .map(|ranked| RankedLine {
            label: ranked.label,
            probability: ranked.probability,
        })
        .collect();
    // Counts the frame towards the trial before writing its result, so that a client which reads the result and then
    // queries the status sees it counted. The verdict is applied afterwards.
    let verdict = runtime.observe(
        adapter,
        Observation {
            milliseconds: milliseconds as f32,
            confidence: line.confidence.unwrap_or(0.0),
        },
    );
    line.trial = verdict.is_some();
    results.send(line.line());

    counters.served.fetch_add(1, Ordering::Relaxed);
    lock(&counters.latencies).push(milliseconds as f32);
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

type Classified = (Arc<ResidentAdapter>, Classification);

/// Reason why a frame has no classification.
enum NoResult {
    /// The task is chosen automatically, and no task fits the frame.
    Unknown,
    /// An error, with its message.
    Failed(String),
}

/// Classifies a frame. If the adapter is on trial and fails, it is reverted and the previous adapter classifies the
/// frame.
fn classify(runtime: &Runtime, chooser: &mut TaskChooser, frame: &Frame) -> Result<Classified, NoResult> {
    let failed = |error: &dyn std::error::Error| NoResult::Failed(with_causes(error));
    // Decodes for the active task's input size or, with automatic choice, for the largest input size of all tasks.
    let tasks = if runtime.serving.auto() {
        runtime.serving.tasks().all()
    } else {
        runtime.serving.tasks().active().into_iter().collect()
    };
    let inputs = tasks.iter().map(|adapter| adapter.preprocessing());
    let image = runtime
        .decode(&frame.bytes, &frame.name, frame.path.as_deref(), inputs)
        .map_err(|error| failed(&error))?;
    let mut fault = runtime.why_no_task();
    let mut pass = runtime.engine.pass(&image);
    for _ in 0..3 {
        let adapter = if runtime.serving.auto() {
            choose(runtime, chooser, &mut pass)?
        } else {
            runtime.serving.tasks().active()
        };
        let Some(adapter) = adapter else { break };
        if !runtime.begin_use(&adapter) {
            continue;
        }
        let classified = catch_unwind(AssertUnwindSafe(|| pass.classify(&adapter)));
        fault = match classified {
            Ok(Ok(classification)) => return Ok((adapter, classification)),
            Ok(Err(error @ EngineError::NotFinite { .. })) => with_causes(&error),
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) => "the engine panicked".to_owned(),
        };
        if !runtime.on_trial(&adapter) {
            break;
        }
        revert(runtime, &adapter, &fault);
    }
    Err(NoResult::Failed(fault))
}

/// Chooses the task for the frame and makes it the active one, which the status then shows.
fn choose(
    runtime: &Runtime,
    chooser: &mut TaskChooser,
    pass: &mut ImagePass<'_>,
) -> Result<Option<Arc<ResidentAdapter>>, NoResult> {
    let choice = chooser
        .observe(pass, runtime.serving.tasks())
        .map_err(|error| NoResult::Failed(with_causes(&error)))?;
    match (choice.task, choice.status) {
        (Some(adapter), _) => {
            let active = runtime.serving.tasks().active();
            let same = active.is_some_and(|active| Arc::ptr_eq(&active, &adapter));
            if (choice.switched || !same) && runtime.serving.switch_chosen(&adapter) {
                runtime.counters.switches.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Some(adapter))
        }
        (None, ChoiceStatus::NoProfiles) => Err(NoResult::Failed(
            "no task has a feature profile, so none can be chosen; train the tasks with this version of clr, or name \
             a task"
                .to_owned(),
        )),
        (None, _) => Err(NoResult::Unknown),
    }
}

fn revert(runtime: &Runtime, adapter: &Arc<ResidentAdapter>, reason: &str) {
    if let Err(error) = runtime.revert(adapter, reason) {
        tracing::error!(task = adapter.task(), "cannot revert: {}", with_causes(&error));
    }
}
