//! Classification by the selected task, or by a group of tasks that share the forward pass. Each task is treated as if
//! it were selected alone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use clr_adapters::Preprocessing;
use clr_engine::{ResidentAdapter, Selected};
use clr_onnx::DecodedImage;

use super::{Attempt, AttemptVerdict, Classified, TRIES, TaskOutcome, judge};
use crate::{error::with_causes, images::ImageFault, runtime::Runtime, source::Frame};

/// Classifies a frame with the selected tasks. Returns their results in the same order.
pub(super) fn classify(runtime: &Runtime, frame: &Frame, selected: &[Selected<ResidentAdapter>]) -> Vec<TaskOutcome> {
    let alone = selected.len() == 1;
    let tasks = selected.iter().map(|task| TaskAtWork {
        name: task.name(),
        next: task.adapter().cloned(),
        fault: None,
        result: match task {
            Selected::Missing(_) if alone => Some(Err(why_none(runtime, frame))),
            _ => None,
        },
    });
    let mut group = Group {
        runtime,
        frame,
        image: None,
        tasks: tasks.collect(),
    };
    group.classify();
    let outcomes = group.tasks.into_iter().map(|task| TaskOutcome {
        task: task.name.to_owned(),
        result: task.result.unwrap_or_else(|| {
            let missing = || runtime.why_missing(task.name);
            Err(task.fault.unwrap_or_else(missing))
        }),
    });
    outcomes.collect()
}

/// Returns the reason for no result if no selected task has an adapter: a fault of the image, or the missing task.
pub(super) fn why_none(runtime: &Runtime, frame: &Frame) -> String {
    match decode(runtime, frame, &[]) {
        Ok(_) => runtime.why_no_task(),
        Err(fault) => with_causes(&fault),
    }
}

fn decode(runtime: &Runtime, frame: &Frame, inputs: &[&Preprocessing]) -> Result<DecodedImage, ImageFault> {
    runtime.decode(&frame.bytes, &frame.name, frame.path.as_deref(), inputs.iter().copied())
}

/// Selected tasks at work on one frame.
struct Group<'a> {
    runtime: &'a Runtime,
    frame: &'a Frame,
    /// The frame, decoded for the inputs of some tasks, and the milliseconds that this took.
    image: Option<(DecodedImage, f64)>,
    tasks: Vec<TaskAtWork<'a>>,
}

/// A task at work on a frame.
struct TaskAtWork<'a> {
    name: &'a str,
    /// The adapter to try next.
    next: Option<Arc<ResidentAdapter>>,
    /// The fault of the last adapter that was reverted.
    fault: Option<String>,
    result: Option<Result<Classified, String>>,
}

/// An adapter to try, and the position of its task.
type Ready = (usize, Arc<ResidentAdapter>);

impl Group<'_> {
    fn classify(&mut self) {
        for _ in 0..TRIES {
            let mut ready = self.begin();
            if ready.is_empty() {
                return;
            }
            while let Some((first, adapter)) = ready.first() {
                let (first, input) = (*first, adapter.preprocessing().clone());
                ready = match self.decode_for(&input) {
                    Ok(image) => {
                        // Tasks whose inputs need another reduction of the image get their own.
                        let fits =
                            |(at, adapter): &Ready| *at == first || image.is_decoded_for(adapter.preprocessing());
                        let (these, others) = ready.into_iter().partition(fits);
                        self.attempt(these);
                        others
                    }
                    Err(fault) => self.fail(ready, &input, &fault),
                };
            }
            // The adapter that replaced a reverted one. It is of the same task, even if the selection has changed.
            for task in self.tasks.iter_mut().filter(|task| task.result.is_none()) {
                task.next = self.runtime.serving.tasks().get(task.name).ok();
            }
        }
    }

    /// Returns the adapters to try, after recording the use of those on trial.
    fn begin(&mut self) -> Vec<Ready> {
        let mut ready = Vec::with_capacity(self.tasks.len());
        for (at, task) in self.tasks.iter_mut().enumerate() {
            let Some(mut adapter) = task.next.take() else { continue };
            if !self.runtime.begin_use(&adapter) {
                // The use cannot be recorded, and another adapter serves.
                let Ok(other) = self.runtime.serving.tasks().get(task.name) else {
                    continue;
                };
                adapter = other;
            }
            ready.push((at, adapter));
        }
        ready
    }

    /// Returns the frame as it is decoded for a task with this input alone.
    fn decode_for(&mut self, input: &Preprocessing) -> Result<&DecodedImage, ImageFault> {
        let known = self.image.take().filter(|(image, _)| image.is_decoded_for(input));
        let image = if let Some(image) = known {
            image
        } else {
            let started = Instant::now();
            (decode(self.runtime, self.frame, &[input])?, milliseconds(started))
        };
        Ok(&self.image.insert(image).0)
    }

    /// Records a fault of the image for the tasks that it concerns, and returns the others.
    fn fail(&mut self, ready: Vec<Ready>, input: &Preprocessing, fault: &ImageFault) -> Vec<Ready> {
        // Whether the image is over a limit depends on the input; other faults concern all tasks.
        let depends = matches!(fault, ImageFault::Image(error) if error.is_over_limit());
        let concerns = |(_, adapter): &Ready| !depends || adapter.preprocessing() == input;
        let (failed, others): (Vec<Ready>, _) = ready.into_iter().partition(concerns);
        for (at, _) in failed {
            self.tasks[at].result = Some(Err(with_causes(fault)));
        }
        others
    }

    /// Classifies the decoded image. In a group, an adapter on trial with a bound on its latency gets its own pass, so
    /// that its latency is that of the task alone.
    fn attempt(&mut self, ready: Vec<Ready>) {
        let Some((image, decoded_ms)) = self.image.take() else {
            return;
        };
        let many = self.tasks.len() > 1;
        let timed = |(_, adapter): &Ready| many && self.runtime.has_latency_bound(adapter);
        let (alone, together): (Vec<Ready>, Vec<Ready>) = ready.into_iter().partition(timed);
        for (at, adapter) in alone {
            let started = Instant::now();
            let attempt = self.attempt_one(&adapter, &image);
            // Without the time that the image waited, which depends on the other tasks.
            let alone_ms = decoded_ms + milliseconds(started);
            self.conclude(at, adapter, attempt, Some(alone_ms));
        }
        let attempts = self.attempt_all(&together, &image);
        for ((at, adapter), attempt) in together.into_iter().zip(attempts) {
            self.conclude(at, adapter, attempt, None);
        }
        self.image = Some((image, decoded_ms));
    }

    fn attempt_one(&self, adapter: &ResidentAdapter, image: &DecodedImage) -> Attempt {
        catch_unwind(AssertUnwindSafe(|| self.runtime.engine.classify(adapter, image)))
    }

    /// Classifies with several adapters, with the results of each alone.
    fn attempt_all(&self, ready: &[Ready], image: &DecodedImage) -> Vec<Attempt> {
        if let [(_, adapter)] = ready {
            return vec![self.attempt_one(adapter, image)];
        }
        let adapters: Vec<&ResidentAdapter> = ready.iter().map(|(_, adapter)| &**adapter).collect();
        let shared = catch_unwind(AssertUnwindSafe(|| self.runtime.engine.classify_all(&adapters, image)));
        match shared {
            Ok(results) => results.into_iter().map(Ok).collect(),
            // An adapter panicked; each alone shows which one.
            Err(_) => (adapters.iter())
                .map(|adapter| self.attempt_one(adapter, image))
                .collect(),
        }
    }

    fn conclude(&mut self, at: usize, adapter: Arc<ResidentAdapter>, attempt: Attempt, alone_ms: Option<f64>) {
        let task = &mut self.tasks[at];
        match judge(self.runtime, &adapter, attempt) {
            AttemptVerdict::Classified(classification) => {
                task.result = Some(Ok(Classified {
                    adapter,
                    classification,
                    alone_ms,
                }));
            }
            AttemptVerdict::Failed(fault) => task.result = Some(Err(fault)),
            AttemptVerdict::Reverted(fault) => task.fault = Some(fault),
        }
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
