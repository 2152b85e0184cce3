//! Health of the device: independent checks, each with a state and one line of text.
//!
//! *Failed* means that frames are not classified as configured, or that nothing can be stored. *Degraded* means that
//! frames are classified, but the device needs attention.

use std::time::Duration;

use clr_transfer::{Health, HealthState};
use rustix::fs::StatVfsMountFlags;

use super::{lock, runtime::Runtime, task_choice::TaskChoice, time};

/// The inference loop counts as stuck after this time without an iteration.
const STUCK: Duration = Duration::from_secs(10);
/// A camera counts as silent after this time without a frame.
#[cfg(feature = "camera")]
const CAMERA_SILENT: Duration = Duration::from_secs(10);
/// Below this number of free bytes on the state folder's disk, the state is degraded.
const RESERVE: u64 = 16 << 20;
/// Below this number of free bytes, no record can be written.
const FULL: u64 = 64 << 10;

/// Result of a check.
type Finding = (HealthState, String);

/// A check of the running device.
type Check = fn(&Runtime) -> Finding;

/// The checks in the order of the report.
const CHECKS: &[(&str, Check)] = &[
    ("inference", inference),
    ("source", source),
    ("task", task),
    ("store", store),
    ("disk", disk),
    #[cfg(feature = "tuning")]
    ("learning", learning),
    ("time", clock),
];

/// Runs all checks.
pub(crate) fn examine(runtime: &Runtime) -> Health {
    let mut health = Health::default();
    for (name, check) in CHECKS {
        let (state, text) = check(runtime);
        health.push(name, state, &text);
    }
    health
}

fn ok(text: impl Into<String>) -> Finding {
    (HealthState::Ok, text.into())
}

fn degraded(text: impl Into<String>) -> Finding {
    (HealthState::Degraded, text.into())
}

fn failed(text: impl Into<String>) -> Finding {
    (HealthState::Failed, text.into())
}

/// Checks that the inference loop is running.
pub(crate) fn inference(runtime: &Runtime) -> Finding {
    let alive = *lock(&runtime.counters.alive);
    match alive.map(|at| at.elapsed()) {
        _ if runtime.stop.is_set() => failed("stopping"),
        None => failed("starting"),
        Some(age) if age > STUCK => failed(format!("the inference loop is stuck for {} s", age.as_secs())),
        Some(_) => ok("the inference loop runs"),
    }
}

/// Checks the source, and the age of its last frame.
fn source(runtime: &Runtime) -> Finding {
    let Some(report) = runtime.counters.source.report() else {
        return ok("no source is configured");
    };
    let age = report.frame_age.as_secs_f64();
    let text = match report.frames {
        0 => format!("no frame in the {age:.1} s since the start"),
        _ => format!("last frame {age:.1} s ago"),
    };
    match runtime.counters.source.fault() {
        Some(fault) => failed(format!("{fault}; {text}")),
        #[cfg(feature = "camera")]
        None if report.name.starts_with("camera") && report.frame_age > CAMERA_SILENT => {
            failed(format!("{} is silent; {text}", report.name))
        }
        None => ok(text),
    }
}

/// Checks that every selected task serves.
fn task(runtime: &Runtime) -> Finding {
    let tasks = runtime.serving.tasks();
    let ready = tasks.len();
    if runtime.serving.auto() {
        return match ready {
            0 => degraded("automatic choice, but there is no task yet"),
            _ => ok(format!("automatic choice; tasks in memory: {ready}")),
        };
    }
    let missing = match (tasks.selection(), runtime.wanted()) {
        (Some(_), _) => runtime.missing_tasks(),
        (None, Some(TaskChoice::Tasks(tasks))) => tasks,
        (None, _) if ready == 0 => return degraded("there is no task yet"),
        (None, _) => return degraded(format!("no task is active; tasks in memory: {ready}")),
    };
    if missing.is_empty() {
        let selection = tasks.selection();
        let adapters = selection.iter().flat_map(|selection| selection.adapters());
        let serving = adapters.map(|adapter| format!("`{}` version {}", adapter.task(), adapter.version()));
        let serving = serving.collect::<Vec<_>>();
        let verb = if serving.len() == 1 { "serves" } else { "serve" };
        return ok(format!("{} {verb}", serving.join(", ")));
    }
    let reasons = missing.iter().map(|task| (task, runtime.why_missing(task)));
    let reasons: Vec<String> = reasons
        .map(|(task, reason)| format!("cannot serve `{task}`: {reason}"))
        .collect();
    failed(reasons.join("; "))
}

/// Checks the store, the device's key, and failed writes.
fn store(runtime: &Runtime) -> Finding {
    match runtime.faults().as_slice() {
        [] => ok(format!("{} tasks stored", runtime.store.tasks().len())),
        [fault] => degraded(fault.clone()),
        [first, rest @ ..] => degraded(format!("{first}; and {} more problems", rest.len())),
    }
}

/// Returns the free bytes on the state folder's disk, and whether it is writable.
pub(crate) fn free_disk(runtime: &Runtime) -> Result<(u64, bool), std::io::Error> {
    let disk = rustix::fs::statvfs(&runtime.config.load().state)?;
    let writable = !disk.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok((disk.f_bavail.saturating_mul(disk.f_frsize), writable))
}

/// Checks the free space on the disk of the state folder.
fn disk(runtime: &Runtime) -> Finding {
    let size = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    match free_disk(runtime) {
        Err(error) => failed(format!("cannot examine the state folder: {error}")),
        Ok((_, false)) => failed("the state folder is on a read-only file system: nothing can be stored"),
        Ok((free, _)) if free < FULL => failed(format!("the disk of the state folder is full: {free} bytes free")),
        Ok((free, _)) if free < RESERVE => {
            degraded(format!("{} free, expected at least {}", size(free), size(RESERVE)))
        }
        Ok((free, _)) => ok(format!("{} free", size(free))),
    }
}

/// Checks the last learning run.
#[cfg(feature = "tuning")]
fn learning(runtime: &Runtime) -> Finding {
    use clr_transfer::TunePhase;
    let status = runtime.learning.status();
    let task = status.task.unwrap_or_default();
    match status.phase {
        TunePhase::Failed => degraded(format!("`{task}`: {}", status.message.unwrap_or_default())),
        phase if phase.is_running() => ok(format!("`{task}` is being tuned")),
        _ => ok("nothing is being tuned"),
    }
}

/// Checks that the clock is not before a time that has certainly passed.
fn clock(_: &Runtime) -> Finding {
    match time::behind() {
        None => ok("the clock is set"),
        Some(seconds) => degraded(format!(
            "the clock is {seconds} s behind the latest known time, which is used for expiry instead"
        )),
    }
}
