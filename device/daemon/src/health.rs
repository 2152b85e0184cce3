//! Health of the device: independent checks, each with a state and one line of text.
//!
//! *Failed*: frames are not answered as they should be, or nothing can be stored. *Degraded*: somebody should look; frames are answered.

use std::time::Duration;

use clr_transfer::{Health, HealthState};
use rustix::fs::StatVfsMountFlags;

use super::{
    runtime::{Runtime, lock},
    time,
};

/// An inference loop that has not come round for this long is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// A camera delivers at least so often.
#[cfg(feature = "camera")]
const CAMERA_SILENT: Duration = Duration::from_secs(10);
/// Free bytes of the state folder's disk below which somebody should look.
const RESERVE: u64 = 16 << 20;
/// Free bytes below which not even a record can be written.
const FULL: u64 = 64 << 10;

/// What a check found.
type Finding = (HealthState, String);

/// A check of the running device.
type Check = fn(&Runtime) -> Finding;

/// The checks, in the order in which they are reported.
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

/// Carries out all checks.
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

/// Whether the inference loop comes round.
pub(crate) fn inference(runtime: &Runtime) -> Finding {
    let alive = *lock(&runtime.counters.alive);
    match alive.map(|at| at.elapsed()) {
        _ if runtime.stop.is_set() => failed("stopping"),
        None => failed("starting"),
        Some(age) if age > STUCK => failed(format!("the inference loop has not come round for {} s", age.as_secs())),
        Some(_) => ok("the inference loop runs"),
    }
}

/// Whether the source is open, and when its last frame came.
fn source(runtime: &Runtime) -> Finding {
    let Some(report) = runtime.counters.source.report() else {
        return ok("no source is configured");
    };
    let age = report.frame_age.as_secs_f64();
    let text = match report.frames {
        0 => format!("no frame in the {age:.1} s since the start"),
        _ => format!("the last frame came {age:.1} s ago"),
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

/// Whether a task serves, or why none does.
fn task(runtime: &Runtime) -> Finding {
    let tasks = runtime.serving.tasks();
    let ready = tasks.len();
    if runtime.serving.auto() {
        return match ready {
            0 => degraded("chosen from each frame, but there is no task yet"),
            _ => ok(format!("chosen from each frame, among {ready}")),
        };
    }
    if let Some(active) = tasks.active() {
        return ok(format!("`{}` version {} serves", active.task(), active.version()));
    }
    let wanted = runtime.config.load().task.clone().or_else(|| runtime.store.active());
    match (wanted, ready) {
        (Some(task), _) => {
            let reason = match runtime.store.task(&task) {
                Ok(state) => state.reverted.map_or_else(
                    || "it has no usable adapter".to_owned(),
                    |reverted| format!("its adapter was reverted: {}", reverted.reason),
                ),
                Err(error) => error.to_string(),
            };
            failed(format!("`{task}` is to serve and cannot: {reason}"))
        }
        (None, 0) => degraded("there is no task yet"),
        (None, _) => degraded(format!("{ready} ready, but none was named")),
    }
}

/// Whether the store was sound when it was opened, the device's key can be used, and the disk took every change.
fn store(runtime: &Runtime) -> Finding {
    match runtime.faults().as_slice() {
        [] => ok(format!("{} tasks stored", runtime.store.tasks().len())),
        [trouble] => degraded(trouble.clone()),
        [first, rest @ ..] => degraded(format!("{first}; and {} more problems", rest.len())),
    }
}

/// Bytes free for the device on the disk of the state folder, and whether it can be written.
pub(crate) fn free_disk(runtime: &Runtime) -> Result<(u64, bool), std::io::Error> {
    let disk = rustix::fs::statvfs(&runtime.config.load().state)?;
    let writable = !disk.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok((disk.f_bavail.saturating_mul(disk.f_frsize), writable))
}

/// Whether there is room on the disk of the state folder.
fn disk(runtime: &Runtime) -> Finding {
    let size = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    match free_disk(runtime) {
        Err(error) => failed(format!("the state folder cannot be looked at: {error}")),
        Ok((_, false)) => failed("the state folder is on a read-only file system: nothing new is kept"),
        Ok((free, _)) if free < FULL => failed(format!("the disk of the state folder is full: {free} bytes free")),
        Ok((free, _)) if free < RESERVE => {
            degraded(format!("{} free, expected at least {}", size(free), size(RESERVE)))
        }
        Ok((free, _)) => ok(format!("{} free", size(free))),
    }
}

/// Whether the last run of learning failed.
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

/// Whether the clock is at or beyond what is known to have passed.
fn clock(_: &Runtime) -> Finding {
    match time::behind() {
        None => ok("the clock is set"),
        Some(seconds) => degraded(format!(
            "the clock is {seconds} s behind what is known to have passed, by which expiry is judged"
        )),
    }
}
