//! `clr device`.

mod examples;
mod forecast;
mod hosts;
mod remove_class;
mod show;
mod teach;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use clr_transfer::{
    ClientError, ClientOptions, Endpoint, EndpointClient, FailureCode, Progress, Security, SystemClock, TuneRequest,
    parse_bytes,
};
use indicatif::ProgressBar;
use serde::Serialize;

use super::Context;
use crate::known_devices::KnownDevices;

/// Query and control a device
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  clr device status --at tcp:robot.local:7171\n  clr device switch birds --at unix:/run/clr/control.sock\n  clr device switch helmet vest --at tcp:robot.local:7171\n  \
                  CLR_DEVICE=tcp:robot.local:7171 clr device list"
)]
pub(crate) struct DeviceCommand {
    /// Device: tcp:HOST:PORT, unix:PATH, serial:PATH[@BAUD] or exec:COMMAND
    #[arg(
        long,
        env = "CLR_DEVICE",
        value_name = "ENDPOINT",
        hide_env_values = true,
        global = true
    )]
    at: Option<Endpoint>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show task, latency, memory, trials, tuning and health
    Status,
    /// List the tasks
    List,
    /// Use other tasks from the next image on; `auto`: the device chooses
    Switch(SwitchArgs),
    /// Return to the task's previous adapter
    Rollback(Task),
    /// Return to the publisher's original of a tuned adapter
    Restore(Task),
    /// Remove a task
    Remove(Task),
    /// Confirm the adapter on trial
    MarkGood(Task),
    /// Revert the adapter on trial, or the last confirmed one
    MarkBad(Task),
    /// Teach a class from images; it is recognised at once
    Teach(teach::TeachArgs),
    /// Remove a class that was taught on the device, and its images
    RemoveClass(remove_class::RemoveClassArgs),
    /// List, show or remove the stored training images
    Examples(examples::ExamplesArgs),
    /// Tune a task on its stored images
    Tune(TuneArgs),
    /// Show tuning progress
    Tuning,
    /// Stop tuning
    StopTuning,
    /// Enrol this host with a device, by the code that it shows
    Enrol(hosts::EnrolArgs),
    /// List the hosts that the device knows
    Hosts,
    /// Revoke a host and end its sessions
    Revoke(hosts::RevokeArgs),
    /// Remove a device's key from this host
    Forget(hosts::ForgetArgs),
    /// Rotate the device's key; hosts follow within 90 days
    RotateKey(hosts::RotateKeyArgs),
}

#[derive(Args, Debug)]
struct SwitchArgs {
    /// The task; several classify each image together
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<String>,
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
    /// Memory limit of the process, such as 300M [default: the device's]
    #[arg(long, alias = "max-ram", value_parser = parse_bytes, value_name = "BYTES")]
    memory_limit: Option<u64>,
    /// Maximum number of steps [default: the device's]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Maximum duration in seconds [default: the device's]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
    /// Report data, memory and obstacles of a run; start nothing
    #[arg(long)]
    check: bool,
}

fn options(endpoint: &Endpoint) -> ClientOptions {
    endpoint.options().with_name(concat!("clr ", env!("CARGO_PKG_VERSION")))
}

/// Returns a client for the device at `endpoint`, over an encrypted session if its key is known. It connects with its
/// first request.
pub(crate) fn client<'c>(endpoint: &'c Endpoint, clock: &'c SystemClock) -> anyhow::Result<EndpointClient<'c>> {
    let known = match endpoint {
        // The system controls access to these.
        Endpoint::Unix(_) | Endpoint::Command(_) => None,
        // Without a home folder, there is no list of known devices.
        _ => KnownDevices::open().ok(),
    };
    let security = known.as_ref().map(|known| known.security(endpoint)).transpose()?;
    let security = security.unwrap_or_default();
    let followed = match (&security, known) {
        (Security::Known { device, .. }, Some(known)) => Some((*device, known)),
        _ => None,
    };
    let options = options(endpoint).with_security(security);
    let mut client = endpoint.client(clock, options);
    if let Some((mut old, known)) = followed {
        client.on_successor(move |new| {
            match known.follow(old, new) {
                Ok(()) => eprintln!(
                    "{endpoint}: the device has a new key, {new}; authenticated by its old key; the new key is stored"
                ),
                Err(error) => {
                    eprintln!("warning: {endpoint}: cannot store the device's new key {new}: {error:#}");
                }
            }
            old = new;
        });
    }
    Ok(client)
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
    /// The tasks of a group.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tasks: &'a [String],
    done: bool,
}

pub(crate) fn run(args: &DeviceCommand, context: &Context<'_>) -> anyhow::Result<u8> {
    match &args.action {
        Action::Enrol(enrol) => return hosts::enrol(enrol, args.at.as_ref(), context),
        Action::Forget(forget) => return hosts::forget(forget, args.at.as_ref(), context),
        _ => {}
    }
    let endpoint = args
        .at
        .as_ref()
        .context("which device?\nhint: --at tcp:HOST:PORT, unix:PATH, serial:PATH[@BAUD] or exec:COMMAND, or the variable CLR_DEVICE")?;
    let clock = SystemClock::new();
    let client = &mut client(endpoint, &clock)?;
    let names;
    let (action, task, text) = match &args.action {
        Action::Status => {
            let status = client.status()?;
            let selection = client.selection()?;
            return show::status(&status, selection.as_deref(), client.health()?.as_ref(), context);
        }
        Action::List => return show::list(client.list()?, context),
        Action::Tuning => return show::tuning(&client.tune_status()?, context),
        Action::Hosts => return hosts::hosts(client, context),
        Action::RotateKey(args) => return hosts::rotate_key(args, client, context),
        // Executed above without a client.
        Action::Enrol(_) | Action::Forget(_) => return Ok(0),
        Action::Revoke(hosts::RevokeArgs { host }) => {
            client.revoke(host)?;
            ("revoke", host.as_str(), "is revoked")
        }
        Action::Teach(teach) => return teach::run(teach, client, context),
        Action::Examples(examples) => return examples::run(examples, client, context),
        Action::Tune(tune) => {
            let request = TuneRequest {
                task: tune.task.clone(),
                memory: tune.memory_limit,
                steps: tune.steps,
                seconds: tune.seconds,
            };
            match client.tune_check(&request) {
                Ok(outlook) if tune.check => return forecast::show(&tune.task, &outlook, context),
                Ok(outlook) => forecast::warn(&outlook),
                // An older device cannot forecast. A task without an adapter may get its adapter from the run.
                Err(ClientError::Refused(failure))
                    if !tune.check && [FailureCode::UNSUPPORTED, FailureCode::NO_TASK].contains(&failure.code) => {}
                Err(error) => return Err(error.into()),
            }
            client.tune(&request)?;
            let text = "is being tuned; `clr device tuning` shows the progress";
            ("tune", tune.task.as_str(), text)
        }
        Action::StopTuning => {
            client.stop_tuning()?;
            ("stop-tuning", "", "tuning is stopped")
        }
        Action::Switch(SwitchArgs { tasks }) => {
            client.switch_group(tasks)?;
            names = tasks.join(", ");
            let text = match tasks.len() {
                1 => "is active from the next image on",
                _ => "are active from the next image on",
            };
            ("switch", names.as_str(), text)
        }
        Action::Rollback(Task { task }) => {
            client.rollback(task)?;
            ("rollback", task.as_str(), "uses the previous adapter again")
        }
        Action::Restore(Task { task }) => {
            client.restore(task)?;
            ("restore", task.as_str(), "uses the publisher's original again")
        }
        Action::Remove(Task { task }) => {
            client.remove(task)?;
            ("remove", task.as_str(), "is removed")
        }
        Action::RemoveClass(class) => return remove_class::run(class, client, context),
        Action::MarkGood(Task { task }) => {
            client.mark_good(task)?;
            ("mark-good", task.as_str(), "is confirmed")
        }
        Action::MarkBad(Task { task }) => {
            client.mark_bad(task)?;
            ("mark-bad", task.as_str(), "is reverted")
        }
    };
    let tasks = match &args.action {
        Action::Switch(SwitchArgs { tasks }) if tasks.len() > 1 => tasks.as_slice(),
        _ => &[],
    };
    let document = DoneDocument {
        action,
        task,
        tasks,
        done: true,
    };
    done(&document, text, context)
}

fn done(document: &DoneDocument<'_>, text: &str, context: &Context<'_>) -> anyhow::Result<u8> {
    if context.output.json {
        context.output.document("device", document)?;
    } else {
        let line = format!("{} {text}", document.task);
        context.output.line(line.trim_start())?;
    }
    Ok(0)
}
