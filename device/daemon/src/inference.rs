//! The inference loop: takes the newest frame, answers it with the active task, and never waits for anything else.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use clr_onnx::DecodedImage;

use super::{
    Received,
    answer::{self, Answer, RankedLine},
    clock,
    output::Answers,
    runtime::{Runtime, lock, with_causes},
    source::{Frame, Source},
    trial::{Observation, Verdict},
};
use clr_engine::{ChoiceStatus, ChooserOptions, Classification, EngineError, ResidentAdapter, TaskChooser};

/// How long the loop waits for a frame before it comes round: it feeds the watchdog and looks whether to stop.
const PATIENCE: Duration = Duration::from_millis(250);

/// Work of the inference loop that writes to the disk, left to the writer thread.
#[derive(Debug)]
pub(crate) enum WriteJob {
    /// Confirm an adapter that passed its trial.
    Confirm(Arc<ResidentAdapter>),
    /// Store a frame of a task, on which tuning measures candidates.
    Keep { task: String, bytes: Vec<u8> },
}

/// Bounded queue to the writer thread. A job that finds it full is dropped: a confirmation is queued again by the next frame.
pub(crate) type WriteQueue = mpsc::SyncSender<WriteJob>;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The device was told to stop.
    Stopped,
    /// The source delivers no more frames.
    OutOfFrames,
    /// The reader of the answers is gone.
    ReaderGone,
}

/// Runs until the source ends, the device stops or the reader of the answers is gone. `tick` is called at least every
/// [`PATIENCE`] while the loop is well.
pub(crate) fn run(
    runtime: &Runtime,
    source: Option<&Source>,
    output: &Answers,
    writes: &WriteQueue,
    tick: &mut dyn FnMut(),
) -> Ended {
    let mut chooser = TaskChooser::new(ChooserOptions::default());
    while !runtime.stop.is_set() {
        *lock(&runtime.counters.alive) = Some(Instant::now());
        tick();
        if output.reader_gone() {
            return Ended::ReaderGone;
        }
        let Some(source) = source else {
            std::thread::sleep(PATIENCE);
            continue;
        };
        match source.frames.receive(PATIENCE) {
            Received::Nothing => {}
            // A source also closes when the device stops.
            Received::Closed if runtime.stop.is_set() => break,
            Received::Closed => return Ended::OutOfFrames,
            Received::Frame(frame) => {
                serve(runtime, &mut chooser, &source.name, &frame, output, writes);
                runtime
                    .counters
                    .dropped
                    .store(source.frames.dropped(), Ordering::Relaxed);
                if let Some(path) = &frame.delete
                    && let Err(error) = std::fs::remove_file(path)
                {
                    tracing::warn!(path = %path.display(), "cannot delete picture: {error}");
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
    output: &Answers,
    writes: &WriteQueue,
) {
    let counters = &runtime.counters;
    let mut line = Answer {
        schema: answer::SCHEMA,
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
    let answered = answer(runtime, chooser, frame);
    let milliseconds = frame.arrived.elapsed().as_secs_f64() * 1e3;
    line.latency_ms = (milliseconds * 1e3).round() / 1e3;
    let (adapter, classification) = match &answered {
        Ok(answered) => answered,
        Err(NoAnswer::Unknown) => {
            line.unknown = true;
            counters.served.fetch_add(1, Ordering::Relaxed);
            lock(&counters.latencies).push(milliseconds as f32);
            return output.send(line.line());
        }
        Err(NoAnswer::Failed(error)) => {
            line.error = Some(error.clone());
            counters.failed.fetch_add(1, Ordering::Relaxed);
            return output.send(line.line());
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
    // Counted before it is told, so that whoever reads the answer and asks finds it counted; acted upon afterwards.
    let verdict = runtime.observe(
        adapter,
        Observation {
            milliseconds: milliseconds as f32,
            confidence: line.confidence.unwrap_or(0.0),
        },
    );
    line.trial = verdict.is_some();
    output.send(line.line());

    counters.served.fetch_add(1, Ordering::Relaxed);
    lock(&counters.latencies).push(milliseconds as f32);
    {
        let mut by_task = lock(&counters.by_task);
        match by_task.get_mut(adapter.task()) {
            Some(count) => *count += 1,
            None => _ = by_task.insert(adapter.task().to_owned(), 1),
        }
    }
    let every = runtime.config.load().tuning.frame_interval;
    if counters.served.load(Ordering::Relaxed).is_multiple_of(every) && runtime.wants_frame(adapter.task()) {
        let (task, bytes) = (adapter.task().to_owned(), frame.bytes.clone());
        let _ = writes.try_send(WriteJob::Keep { task, bytes });
    }
    match verdict {
        None | Some(Verdict::Continue) => {}
        Some(Verdict::Confirm) => _ = writes.try_send(WriteJob::Confirm(Arc::clone(adapter))),
        Some(Verdict::Revert(reason)) => revert(runtime, adapter, &reason),
    }
}

type Answered = (Arc<ResidentAdapter>, Classification);

/// Why a frame has no answer.
enum NoAnswer {
    /// The task is chosen from the frame, and none fits.
    Unknown,
    /// In words.
    Failed(String),
}

/// The frame's answer. An adapter on trial that cannot answer is reverted, and the frame answered by what served before.
fn answer(runtime: &Runtime, chooser: &mut TaskChooser, frame: &Frame) -> Result<Answered, NoAnswer> {
    let failed = |error: &dyn std::error::Error| NoAnswer::Failed(with_causes(error));
    // As the task that answers was trained; where it is chosen from the frame, as the one with the largest input.
    let tasks = if runtime.serving.auto() {
        runtime.serving.tasks().all()
    } else {
        runtime.serving.tasks().active().into_iter().collect()
    };
    let inputs = tasks.iter().map(|adapter| adapter.preprocessing());
    let picture = runtime
        .decode(&frame.bytes, &frame.name, frame.path.as_deref(), inputs)
        .map_err(|error| failed(&error))?;
    let mut fault = runtime.why_no_task();
    for _ in 0..3 {
        let adapter = if runtime.serving.auto() {
            choose(runtime, chooser, &picture)?
        } else {
            runtime.serving.tasks().active()
        };
        let Some(adapter) = adapter else { break };
        if !runtime.begin_use(&adapter) {
            continue;
        }
        let classified = catch_unwind(AssertUnwindSafe(|| runtime.engine.classify(&adapter, &picture)));
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
    Err(NoAnswer::Failed(fault))
}

/// The task that the frame looks like. It becomes the active one, so that the status and the next manual choice start from it.
fn choose(
    runtime: &Runtime,
    chooser: &mut TaskChooser,
    picture: &DecodedImage,
) -> Result<Option<Arc<ResidentAdapter>>, NoAnswer> {
    let choice = chooser
        .observe(&runtime.engine, runtime.serving.tasks(), picture)
        .map_err(|error| NoAnswer::Failed(with_causes(&error)))?;
    match (choice.task, choice.status) {
        (Some(adapter), _) => {
            let active = runtime.serving.tasks().active();
            let same = active.is_some_and(|active| Arc::ptr_eq(&active, &adapter));
            if (choice.switched || !same) && runtime.serving.switch_chosen(&adapter) {
                runtime.counters.switches.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Some(adapter))
        }
        (None, ChoiceStatus::NoProfiles) => Err(NoAnswer::Failed(
            "no task has a feature profile to be chosen by; train it with this version of clr, or name a task"
                .to_owned(),
        )),
        (None, _) => Err(NoAnswer::Unknown),
    }
}

fn revert(runtime: &Runtime, adapter: &Arc<ResidentAdapter>, reason: &str) {
    if let Err(error) = runtime.revert(adapter, reason) {
        tracing::error!(task = adapter.task(), "cannot revert: {}", with_causes(&error));
    }
}
