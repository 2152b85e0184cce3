//! Classification by the task that the device chooses for the frame.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use clr_engine::{ChoiceStatus, ImagePass, ResidentAdapter, TaskChooser};

use super::{AttemptVerdict, Classified, NoResult, TRIES, judge};
use crate::{error::with_causes, runtime::Runtime, source::Frame};

/// Chooses the task for the frame, and classifies the frame with it.
pub(super) fn classify(runtime: &Runtime, chooser: &mut TaskChooser, frame: &Frame) -> Result<Classified, NoResult> {
    // Decodes for the largest input size of all tasks.
    let tasks = runtime.serving.tasks().all();
    let inputs = tasks.iter().map(|adapter| adapter.preprocessing());
    let image = runtime
        .decode(&frame.bytes, &frame.name, frame.path.as_deref(), inputs)
        .map_err(|error| NoResult::Failed(with_causes(&error)))?;
    let mut fault = runtime.why_no_task();
    let mut pass = runtime.engine.pass(&image);
    for _ in 0..TRIES {
        let Some(adapter) = choose(runtime, chooser, &mut pass)? else {
            break;
        };
        if !runtime.begin_use(&adapter) {
            continue;
        }
        let attempt = catch_unwind(AssertUnwindSafe(|| pass.classify(&adapter)));
        match judge(runtime, &adapter, attempt) {
            AttemptVerdict::Classified(classification) => {
                return Ok(Classified {
                    adapter,
                    classification,
                    alone_ms: None,
                });
            }
            AttemptVerdict::Failed(fault) => return Err(NoResult::Failed(fault)),
            AttemptVerdict::Reverted(reason) => fault = reason,
        }
    }
    Err(NoResult::Failed(fault))
}

/// Chooses the task for the frame and makes it the active one, which the status then shows.
fn choose(
    runtime: &Runtime,
    chooser: &mut TaskChooser,
    pass: &mut ImagePass<'_>,
) -> Result<Option<Arc<ResidentAdapter>>, NoResult> {
    if let Some(fault) = &runtime.background_fault {
        let fault = fault.lines().next().unwrap_or_default();
        return Err(NoResult::Failed(format!("no task can be chosen: {fault}")));
    }
    let tasks = runtime.serving.tasks();
    // The head of the best task has a say, so its adapter is used here for the first time. If it panics, the choice is
    // made without it, and its own classification then counts against it.
    let observed = catch_unwind(AssertUnwindSafe(|| {
        chooser.observe_with(pass, tasks, |adapter| runtime.begin_use(adapter))
    }));
    let choice = observed
        .unwrap_or_else(|_| chooser.observe_with(pass, tasks, |_| false))
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
            match runtime.engine.backbone().background() {
                Some(_) => "no task has a feature profile for the background of this backbone; copy the background that the \
                            tasks were trained with next to the backbone, train the tasks again, or name a task",
                None => "no task has a feature profile that can be used without a background; copy the backbone's background \
                         next to it, train the tasks with this version of clr, or name a task",
            }
            .to_owned(),
        )),
        (None, _) => Err(NoResult::Unknown),
    }
}
