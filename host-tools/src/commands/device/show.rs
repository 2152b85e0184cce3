//! Output of a device's replies as text or JSON.

use clr_adapters::Provenance;
use clr_transfer::{Health, HealthState, Status, TaskState, TaskSummary, TuneStatus, printable};
use serde::Serialize;

use super::Context;
use crate::output::{Table, human_bytes, human_time};

#[derive(Serialize)]
struct ListDocument {
    tasks: Vec<TaskSummary>,
}

#[derive(Serialize)]
struct StatusDocument<'a> {
    #[serde(flatten)]
    status: &'a Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    selection: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<&'a Health>,
}

/// Shows the status and, if the device reports them, the names of the selected tasks and its health.
pub(super) fn status(
    status: &Status,
    selection: Option<&[String]>,
    health: Option<&Health>,
    context: &Context<'_>,
) -> anyhow::Result<u8> {
    let output = context.output;
    if output.json {
        output.document(
            "device",
            &StatusDocument {
                status,
                selection,
                health,
            },
        )?;
        return Ok(0);
    }
    // An older device has at most one task.
    let active = match selection {
        Some([]) => "none".to_owned(),
        Some(names) => printable(&names.join(", ")),
        None => printable(status.active_task.as_deref().unwrap_or("none")),
    };
    let label = if selection.is_some_and(|names| names.len() > 1) {
        "tasks"
    } else {
        "task"
    };
    let how = if status.auto { " (chosen by the device)" } else { "" };
    let (frames, latency, memory) = (&status.frames, &status.latency, &status.memory);
    let micro = |us: u64| human_time(us as f64 / 1e6);
    output.line(&format!("device       {} ({})", status.device, status.software))?;
    output.line(&format!("backbone     {}", status.backbone))?;
    output.line(&format!("{label:<13}{active}{how}"))?;
    output.line(&format!("up           {}", human_time(status.uptime_seconds as f64)))?;
    output.line(&format!(
        "images       {} classified, {} dropped, {} failed",
        frames.served, frames.dropped, frames.failed
    ))?;
    output.line(&format!(
        "latency      {} median, {} p99, over {} images",
        micro(latency.median_us),
        micro(latency.p99_us),
        latency.frames
    ))?;
    output.line(&format!(
        "memory       {} now, {} after the start; {} tasks in memory take {}",
        human_bytes(memory.resident_bytes),
        human_bytes(memory.resident_after_start_bytes),
        memory.resident_tasks,
        human_bytes(memory.adapter_bytes)
    ))?;
    for trial in &status.trials {
        output.line(&format!(
            "on trial     {} version {}, {} images left",
            trial.task, trial.version, trial.frames_left
        ))?;
    }
    for revert in &status.reverts {
        output.line(&format!(
            "reverted     {} version {}: {}",
            revert.task, revert.version, revert.reason
        ))?;
    }
    if let Some(tuning) = &status.tuning {
        tuning_lines(tuning, context)?;
    }
    if let Some(health) = health {
        output.line(&format!("health       {}", state_name(health.state)))?;
        for check in health.checks.iter().filter(|check| check.state != HealthState::Ok) {
            let state = state_name(check.state);
            // Text from a device is untrusted, so control characters are escaped for the terminal.
            output.line(&format!(
                "  {} {state}: {}",
                printable(&check.name),
                printable(&check.text)
            ))?;
        }
    }
    Ok(0)
}

const fn state_name(state: HealthState) -> &'static str {
    match state {
        HealthState::Ok => "ok",
        HealthState::Degraded => "degraded",
        HealthState::Failed => "failed",
        _ => "?",
    }
}

pub(super) fn list(tasks: Vec<TaskSummary>, context: &Context<'_>) -> anyhow::Result<u8> {
    if context.output.json {
        context.output.document("device", &ListDocument { tasks })?;
        return Ok(0);
    }
    let mut table = Table::new([
        "task",
        "version",
        "state",
        "labels",
        "bytes",
        "from",
        "digest",
        "last revert",
    ]);
    for task in &tasks {
        let version = match task.revision {
            0 => task.version.to_string(),
            revision => format!("{}.{revision}", task.version),
        };
        let state = match task.state {
            TaskState::Confirmed => "confirmed".to_owned(),
            TaskState::OnTrial { frames_left } => format!("on trial, {frames_left} left"),
            TaskState::Empty => "empty".to_owned(),
            _ => "?".to_owned(),
        };
        let from = match task.provenance {
            Provenance::Imported => "import",
            Provenance::HostTrained => "host",
            Provenance::DeviceTuned => "device",
            _ => "?",
        };
        let mark = if task.active { " *" } else { "" };
        table.row([
            format!("{}{mark}", task.task),
            version,
            state,
            task.labels.to_string(),
            task.file_bytes.to_string(),
            from.to_owned(),
            task.digest.short(),
            task.last_revert.clone().unwrap_or_default(),
        ]);
    }
    context.output.table(&table)?;
    Ok(0)
}

pub(super) fn tuning(status: &TuneStatus, context: &Context<'_>) -> anyhow::Result<u8> {
    if context.output.json {
        context.output.document("device", status)?;
    } else {
        tuning_lines(status, context)?;
    }
    Ok(0)
}

fn tuning_lines(status: &TuneStatus, context: &Context<'_>) -> std::io::Result<()> {
    let output = context.output;
    let task = status.task.as_deref().unwrap_or("-");
    let phase = format!("{:?}", status.phase).to_lowercase();
    output.line(&format!(
        "tuning       {task}: {phase}, step {} of {}, {}",
        status.step,
        status.steps,
        human_time(status.seconds as f64)
    ))?;
    if let Some(plan) = &status.plan {
        let memory = status
            .memory
            .map(|bytes| format!(", {}", human_bytes(bytes)))
            .unwrap_or_default();
        output.line(&format!("plan         {plan}{memory}"))?;
    }
    if let Some(loss) = status.loss {
        output.line(&format!("loss         {loss:.4}"))?;
    }
    if let (Some(before), Some(after)) = (status.accuracy_before, status.accuracy_after) {
        output.line(&format!(
            "held out     {:.1} % before, {:.1} % after",
            100.0 * before,
            100.0 * after
        ))?;
    }
    if let Some(message) = &status.message {
        output.line(&format!("message      {message}"))?;
    }
    Ok(())
}
