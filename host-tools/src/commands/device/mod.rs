//! `clr device`.

mod show;
mod teach;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use clr_transfer::{
    Client, ClientError, Clock, DeviceInfo, Endpoint, Kind, Link, Progress, Pulled, Pushed, Slot, Status, SystemClock,
    TaskSummary, TuneRequest, TuneStatus,
};
use indicatif::ProgressBar;
use serde::Serialize;

use super::Context;

/// Ask a device and tell it what to do
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  clr device status --at tcp:robot.local:7171\n  clr device switch birds --at unix:/run/clr-device/control.sock\n  \
                  CLR_DEVICE=tcp:robot.local:7171 clr device list"
)]
pub(crate) struct DeviceCommand {
    /// Where the device is: tcp:HOST:PORT, unix:PATH, serial:PATH[@BAUD] or exec:COMMAND
    #[arg(
        long,
        env = "CLR_DEVICE",
        value_name = "PLACE",
        hide_env_values = true,
        global = true
    )]
    at: Option<Endpoint>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What it is doing: task, latency, memory, trials, tuning
    Status,
    /// Its tasks
    List,
    /// Let another task answer from the next frame on; `auto` lets the device choose
    Switch(Task),
    /// Go back to a task's adapter before
    Rollback(Task),
    /// Go back to the publisher's original of what the device tuned
    Restore(Task),
    /// Forget a task
    Remove(Task),
    /// Confirm what is on trial
    MarkGood(Task),
    /// Take back what is on trial, or else what was confirmed last
    MarkBad(Task),
    /// File pictures under a label of a task, to learn from
    Teach(teach::TeachArgs),
    /// Learn from the pictures filed for a task
    Tune(TuneArgs),
    /// How far tuning is
    Tuning,
    /// Stop tuning
    StopTuning,
}

#[derive(Args, Debug)]
struct Task {
    /// The task
    #[arg(value_name = "TASK")]
    task: String,
}

#[derive(Args, Debug)]
struct TuneArgs {
    /// The task
    #[arg(value_name = "TASK")]
    task: String,
    /// The most memory that it may take, such as 300M [default: the device's budget]
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    max_ram: Option<u64>,
    /// The most steps [default: the device chooses]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// The most seconds [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
}

/// A number of bytes with `k`, `M` or `G` behind it, as powers of 1000.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, factor) = match text
        .trim_end_matches(['b', 'B'])
        .split_at_checked(text.trim_end_matches(['b', 'B']).len().saturating_sub(1))
    {
        Some((number, "k" | "K")) => (number, 1_000),
        Some((number, "M" | "m")) => (number, 1_000_000),
        Some((number, "G" | "g")) => (number, 1_000_000_000),
        _ => (text, 1),
    };
    let value = number
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    value
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "expected a number of bytes, such as 300M".to_owned())
}

/// A client of any endpoint.
pub(crate) trait AnyClient {
    fn device(&mut self) -> Result<DeviceInfo, ClientError>;
    fn status(&mut self) -> Result<Status, ClientError>;
    fn list(&mut self) -> Result<Vec<TaskSummary>, ClientError>;
    fn act(&mut self, what: Act, task: &str) -> Result<(), ClientError>;
    fn tune(&mut self, request: &TuneRequest) -> Result<(), ClientError>;
    fn tune_status(&mut self) -> Result<TuneStatus, ClientError>;
    fn stop_tuning(&mut self) -> Result<(), ClientError>;
    fn push(&mut self, bytes: &[u8], kind: Kind, progress: &mut dyn FnMut(Progress)) -> Result<Pushed, ClientError>;
    fn pull(
        &mut self,
        task: &str,
        slot: Slot,
        cap: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, ClientError>;
}

/// What can be done with a task by its name alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Switch,
    Rollback,
    Restore,
    Remove,
    MarkGood,
    MarkBad,
}

impl Act {
    fn done(self) -> &'static str {
        match self {
            Self::Switch => "answers from the next frame on",
            Self::Rollback => "is back to the adapter before",
            Self::Restore => "is back to the publisher's original",
            Self::Remove => "is forgotten",
            Self::MarkGood => "is confirmed",
            Self::MarkBad => "is taken back",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Rollback => "rollback",
            Self::Restore => "restore",
            Self::Remove => "remove",
            Self::MarkGood => "mark-good",
            Self::MarkBad => "mark-bad",
        }
    }
}

impl<F> AnyClient for Client<'_, Link, F>
where
    F: FnMut() -> Result<Link, String>,
{
    fn device(&mut self) -> Result<DeviceInfo, ClientError> {
        self.device()
    }

    fn status(&mut self) -> Result<Status, ClientError> {
        self.status()
    }

    fn list(&mut self) -> Result<Vec<TaskSummary>, ClientError> {
        self.list()
    }

    fn act(&mut self, what: Act, task: &str) -> Result<(), ClientError> {
        match what {
            Act::Switch => self.switch(task),
            Act::Rollback => self.rollback(task),
            Act::Restore => self.restore(task),
            Act::Remove => self.remove(task),
            Act::MarkGood => self.mark_good(task),
            Act::MarkBad => self.mark_bad(task),
        }
    }

    fn tune(&mut self, request: &TuneRequest) -> Result<(), ClientError> {
        self.tune(request)
    }

    fn tune_status(&mut self) -> Result<TuneStatus, ClientError> {
        self.tune_status()
    }

    fn stop_tuning(&mut self) -> Result<(), ClientError> {
        self.stop_tuning()
    }

    fn push(&mut self, bytes: &[u8], kind: Kind, progress: &mut dyn FnMut(Progress)) -> Result<Pushed, ClientError> {
        self.push(bytes, kind, progress)
    }

    fn pull(
        &mut self,
        task: &str,
        slot: Slot,
        cap: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, ClientError> {
        self.pull(task, slot, cap, progress)
    }
}

/// A client of the device at `endpoint`; connects with the first request.
pub(crate) fn client<'c>(endpoint: &'c Endpoint, clock: &'c dyn Clock) -> Box<dyn AnyClient + 'c> {
    let options = clr_transfer::ClientOptions {
        name: concat!("clr ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..endpoint.options()
    };
    Box::new(Client::new(|| endpoint.connect(), clock, options))
}

/// Moves a bar.
pub(crate) fn progress(bar: &ProgressBar, step: Progress) {
    bar.set_length(step.total);
    bar.set_position(step.done);
}

#[derive(Serialize)]
struct DoneDocument<'a> {
    action: &'a str,
    task: &'a str,
    done: bool,
}

pub(crate) fn run(args: &DeviceCommand, context: &Context<'_>) -> anyhow::Result<u8> {
    let endpoint = args
        .at
        .as_ref()
        .context("which device?\nhint: --at tcp:HOST:PORT, unix:PATH, serial:PATH[@BAUD] or exec:COMMAND, or the variable CLR_DEVICE")?;
    let clock = SystemClock::new();
    let mut client = client(endpoint, &clock);
    let client = &mut *client;
    let act = match &args.action {
        Action::Status => return show::status(&client.status()?, context),
        Action::List => return show::list(client.list()?, context),
        Action::Tuning => return show::tuning(&client.tune_status()?, context),
        Action::Teach(teach) => return teach::run(teach, client, context),
        Action::Tune(tune) => {
            client.tune(&TuneRequest {
                task: tune.task.clone(),
                memory: tune.max_ram,
                steps: tune.steps,
                seconds: tune.seconds,
            })?;
            return done(
                "tune",
                &tune.task,
                "is being tuned; `clr device tuning` says how far",
                context,
            );
        }
        Action::StopTuning => {
            client.stop_tuning()?;
            return done("stop-tuning", "", "tuning is stopped", context);
        }
        Action::Switch(task) => (Act::Switch, task),
        Action::Rollback(task) => (Act::Rollback, task),
        Action::Restore(task) => (Act::Restore, task),
        Action::Remove(task) => (Act::Remove, task),
        Action::MarkGood(task) => (Act::MarkGood, task),
        Action::MarkBad(task) => (Act::MarkBad, task),
    };
    let (act, Task { task }) = act;
    client.act(act, task)?;
    done(act.name(), task, act.done(), context)
}

fn done(action: &str, task: &str, text: &str, context: &Context<'_>) -> anyhow::Result<u8> {
    let done = true;
    if context.output.json {
        context
            .output
            .document("device", &DoneDocument { action, task, done })?;
    } else {
        context.output.line(format!("{task} {text}").trim_start())?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("300M"), Ok(300_000_000));
        assert_eq!(parse_bytes("2GB"), Ok(2_000_000_000));
        assert_eq!(parse_bytes("512"), Ok(512));
        assert!(parse_bytes("0").is_err() && parse_bytes("M").is_err() && parse_bytes("1.5G").is_err());
    }
}
