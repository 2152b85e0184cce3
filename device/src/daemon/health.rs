//! Health of the device: independent checks, each with a state and one line of text.
//!
//! *Failed*: frames are not answered as they should be, or nothing can be stored. *Degraded*: somebody should look; frames are answered.

use std::time::Duration;

use clr_transfer::{Health, HealthState};
use rustix::fs::StatVfsMountFlags;

use super::{
    SourceConfig,
    runtime::{Runtime, lock, now},
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
    ("time", time),
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

/// Whether frames come, as far as their source is one that delivers all the time.
fn source(runtime: &Runtime) -> Finding {
    let age = lock(&runtime.counters.last_frame).map(|at| at.elapsed());
    let text = age.map_or_else(
        || "no frame yet".to_owned(),
        |age| format!("the last frame came {:.1} s ago", age.as_secs_f64()),
    );
    match &runtime.config.load().source {
        SourceConfig::None => ok("no source is configured"),
        SourceConfig::Directory { path, .. } if !path.is_dir() => {
            failed(format!("the watched folder '{}' is gone; {text}", path.display()))
        }
        #[cfg(feature = "camera")]
        SourceConfig::Camera { path, .. } if age.unwrap_or(runtime.uptime()) > CAMERA_SILENT => {
            failed(format!("the camera '{}' is silent; {text}", path.display()))
        }
        _ => ok(text),
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

/// Whether the store was sound when it was opened.
fn store(runtime: &Runtime) -> Finding {
    match runtime.store.problems() {
        [] => ok(format!("{} tasks stored", runtime.store.tasks().len())),
        [problem] => degraded(problem.to_string()),
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

/// Whether the clock was set.
fn time(_: &Runtime) -> Finding {
    match now() {
        Some(_) => ok("the clock is set"),
        None => degraded("the clock was never set: the expiry of adapters is not checked"),
    }
}
