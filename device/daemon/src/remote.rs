//! Commands sent to the device on this machine, over its control socket.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Args, Subcommand};
use clr_transfer::{
    ClientError, Endpoint, EndpointClient, FailureCode, Role, SystemClock, TunePhase, TuneRequest, TuneStatus,
    parse_bytes,
};

use super::{
    control_target::{RemoteError, Target, print},
    escape, print_line,
    remote_images::{ExamplesArgs, TeachArgs, examples, teach},
    stderr,
};

/// Exit code if the device refused.
const REFUSED: u8 = 3;

#[derive(Debug, Subcommand)]
pub(super) enum RemoteCommand {
    /// Carry the update protocol over standard input and output
    ///
    /// For hosts that reach the device through ssh: `clr push birds.clr --to exec:'ssh robot clr-device stdio'`.
    /// Without --config and --socket it uses the socket of /etc/clr/device.toml, or /run/clr/control.sock.
    Stdio(Target),
    /// Show task, latency, memory, trials and health, as JSON
    Status(Target),
    /// List the tasks, as JSON
    List(Target),
    /// Use other tasks from the next image on; `auto`: the device chooses
    Switch(SwitchArgs),
    /// Return to the task's previous adapter
    Rollback(TaskArgs),
    /// Return to the publisher's original of a tuned adapter
    Restore(TaskArgs),
    /// Remove a task
    Remove(TaskArgs),
    /// Confirm the adapter on trial
    MarkGood(TaskArgs),
    /// Revert the adapter on trial, or the last confirmed one
    MarkBad(TaskArgs),
    /// Teach a class from images; it is recognised at once
    Teach(TeachArgs),
    /// Remove a class that was taught on the device, and its images
    RemoveClass(ClassArgs),
    /// List, show or remove the stored training images
    Examples(ExamplesArgs),
    /// Tune a task on its stored images, in the background
    Tune(TuneArgs),
    /// Show a code that enrols one host, over TCP or a serial line
    Enrol(EnrolArgs),
    /// List the enrolled and configured hosts, as JSON
    Hosts(Target),
    /// Revoke a host and end its sessions
    Revoke(RevokeArgs),
    /// Rotate the key of encrypted sessions; hosts follow within 90 days
    RotateKey(RotateKeyArgs),
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr-device enrol --role update\n  clr-device enrol --role operate --role teach --minutes 60"
)]
pub(super) struct EnrolArgs {
    /// Role: observe, operate, teach, update or administer; may be repeated
    #[arg(short, long = "role", value_name = "ROLE", required = true)]
    roles: Vec<Role>,
    /// Validity of the code in minutes
    #[arg(short, long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    /// The host's name or key
    host: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr-device rotate-key\n\nHosts learn the new key at their next connection. If the old key was stolen, drop it at \
                  once (--drop-old): its holder could announce another key. Hosts then enrol again."
)]
pub(super) struct RotateKeyArgs {
    /// Create no new key; stop accepting the old one
    #[arg(long)]
    drop_old: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  clr-device switch birds\n  clr-device switch helmet vest")]
pub(super) struct SwitchArgs {
    /// The task; several classify each image together
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct TaskArgs {
    /// The task
    task: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct ClassArgs {
    /// The task
    task: String,
    /// The class
    label: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct TuneArgs {
    /// The task
    #[arg(short, long, value_name = "NAME")]
    task: String,
    /// Memory limit of the process, such as 300M [default: 300M]
    #[arg(long, alias = "max-ram", value_name = "BYTES", value_parser = parse_bytes)]
    memory_limit: Option<u64>,
    /// Steps of training
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Maximum duration in seconds; a stopped run can be resumed
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,
    /// Return without waiting for the end
    #[arg(long)]
    background: bool,
    /// Report data, memory and obstacles of a run as JSON; start nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    target: Target,
}

/// Runs a command; `clr-device --help` lists the exit codes.
pub(super) fn run(command: &RemoteCommand) -> ExitCode {
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let refused = matches!(
                error,
                RemoteError::Client(ClientError::Refused(_) | ClientError::NotAdmitted(_))
            );
            stderr::report(&error.to_string());
            ExitCode::from(if refused { REFUSED } else { 1 })
        }
    }
}

fn execute(command: &RemoteCommand) -> Result<(), RemoteError> {
    let target = match command {
        RemoteCommand::Stdio(target)
        | RemoteCommand::Status(target)
        | RemoteCommand::List(target)
        | RemoteCommand::Hosts(target) => target,
        RemoteCommand::Switch(args) => &args.target,
        RemoteCommand::Rollback(args)
        | RemoteCommand::Restore(args)
        | RemoteCommand::Remove(args)
        | RemoteCommand::MarkGood(args)
        | RemoteCommand::MarkBad(args) => &args.target,
        RemoteCommand::Teach(args) => &args.target,
        RemoteCommand::RemoveClass(args) => &args.target,
        RemoteCommand::Examples(args) => &args.target,
        RemoteCommand::Tune(args) => &args.target,
        RemoteCommand::Enrol(args) => &args.target,
        RemoteCommand::Revoke(args) => &args.target,
        RemoteCommand::RotateKey(args) => &args.target,
    };
    let socket = target.socket()?;
    let (endpoint, clock) = (Endpoint::Unix(socket.display().to_string()), SystemClock::new());
    let client = &mut endpoint.client(&clock, endpoint.options());
    match command {
        RemoteCommand::Stdio(_) => bridge(&socket)?,
        RemoteCommand::Status(_) => {
            let status = client.status()?;
            let selection = client.selection()?;
            let health = client.health()?;
            print(&StatusDocument {
                status,
                selection,
                health,
            })?;
        }
        RemoteCommand::List(_) => print(&Tasks { tasks: client.list()? })?,
        RemoteCommand::Switch(args) => client.switch_group(&args.tasks)?,
        RemoteCommand::Rollback(args) => client.rollback(&args.task)?,
        RemoteCommand::Restore(args) => client.restore(&args.task)?,
        RemoteCommand::Remove(args) => client.remove(&args.task)?,
        RemoteCommand::MarkGood(args) => client.mark_good(&args.task)?,
        RemoteCommand::MarkBad(args) => client.mark_bad(&args.task)?,
        RemoteCommand::Teach(args) => teach(args, client)?,
        RemoteCommand::RemoveClass(args) => print(&client.remove_class(&args.task, &args.label)?)?,
        RemoteCommand::Examples(args) => examples(args, client)?,
        RemoteCommand::Tune(args) => tune(args, client)?,
        RemoteCommand::Enrol(args) => enrol(args, client)?,
        RemoteCommand::Hosts(_) => print(&Hosts { hosts: client.hosts()? })?,
        RemoteCommand::Revoke(args) => client.revoke(&args.host)?,
        RemoteCommand::RotateKey(args) => print(&client.rotate_key(args.drop_old)?)?,
    }
    Ok(())
}

#[derive(serde::Serialize)]
struct StatusDocument {
    #[serde(flatten)]
    status: clr_transfer::Status,
    /// The selected tasks; absent for devices older than this command, as the following field.
    #[serde(skip_serializing_if = "Option::is_none")]
    selection: Option<Vec<String>>,
    /// Absent for devices older than this command.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<clr_transfer::Health>,
}

#[derive(serde::Serialize)]
struct Tasks {
    tasks: Vec<clr_transfer::TaskSummary>,
}

#[derive(serde::Serialize)]
struct Hosts {
    hosts: Vec<clr_transfer::HostEntry>,
}

fn enrol(args: &EnrolArgs, client: &mut EndpointClient<'_>) -> Result<(), RemoteError> {
    let roles = args.roles.iter().copied().collect();
    let enrolment = client.enrol(roles, args.minutes)?;
    print_line(format_args!("{}", enrolment.code))?;
    eprintln!(
        "for one host, within {} minutes:\n  clr device enrol tcp:THIS-DEVICE:PORT --code {}",
        enrolment.seconds.div_ceil(60),
        enrolment.code
    );
    Ok(())
}

fn tune(args: &TuneArgs, client: &mut EndpointClient<'_>) -> Result<(), RemoteError> {
    let request = TuneRequest {
        task: args.task.clone(),
        memory: args.memory_limit,
        steps: args.steps,
        seconds: args.seconds,
    };
    match client.tune_check(&request) {
        Ok(outlook) if args.check => return print(&outlook),
        Ok(outlook) => {
            for lack in &outlook.lacks {
                eprintln!("warning: {}\nhint: {}", lack.what, lack.hint);
            }
        }
        Err(ClientError::Refused(failure)) if !args.check && failure.code == FailureCode::NO_TASK => {}
        Err(error) => return Err(error.into()),
    }
    client.tune(&request)?;
    if args.background {
        return Ok(());
    }
    let status = follow(client)?;
    print(&status)?;
    ended(status.phase)
}

/// Waits until the run ends, and prints its plan and progress.
fn follow(client: &mut EndpointClient<'_>) -> Result<TuneStatus, RemoteError> {
    const POLL_INTERVAL: Duration = Duration::from_millis(200);
    let mut printed = None;
    let status = client.follow_tuning(POLL_INTERVAL, &mut |status| {
        if status.plan.is_some() && status.plan != printed {
            eprintln!("{}", escape::one_line(status.plan.as_deref().unwrap_or_default()));
            printed.clone_from(&status.plan);
        }
        if std::io::stderr().is_terminal() && status.steps > 0 {
            eprint!(
                "\rstep {} of {}, loss {:.3} ",
                status.step,
                status.steps,
                status.loss.unwrap_or(0.0)
            );
        }
    })?;
    Ok(status)
}

fn ended(phase: TunePhase) -> Result<(), RemoteError> {
    match phase {
        TunePhase::Failed => Err(RemoteError::Other("nothing was learned".to_owned())),
        _ => Ok(()),
    }
}

/// Copies bytes in both directions until either side ends.
fn bridge(socket: &Path) -> Result<(), RemoteError> {
    let failed = |error: std::io::Error| {
        RemoteError::Other(format!(
            "cannot reach the device at '{}': {error}\nhint: is it running?",
            socket.display()
        ))
    };
    let stream = UnixStream::connect(socket).map_err(failed)?;
    let mut to_device = stream.try_clone().map_err(failed)?;
    thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let _ = std::io::copy(&mut input, &mut to_device);
        // Passes the end of the host's stream on to the device.
        let _ = to_device.shutdown(std::net::Shutdown::Write);
    });
    let mut from_device = stream;
    let mut output = std::io::stdout().lock();
    let mut buffer = [0; 16 << 10];
    loop {
        match from_device.read(&mut buffer) {
            Ok(0) => return Ok(()),
            // Each piece is flushed, so that no protocol frame stays in a buffer.
            Ok(count) => {
                if output
                    .write_all(&buffer[..count])
                    .and_then(|()| output.flush())
                    .is_err()
                {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
