//! Commands to the device that runs on this machine, over its control socket.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use clap::{Args, Subcommand};
use clr_transfer::{Client, ClientError, Committed, Endpoint, Kind, Link, SystemClock};

use super::Config;

/// The device refused.
const REFUSED: u8 = 3;

/// Where the device listens.
#[derive(Args, Clone, Debug)]
pub(super) struct Target {
    /// The configuration that the device runs with
    #[arg(short, long, value_name = "FILE", env = "CLR_DEVICE_CONFIG")]
    config: Option<PathBuf>,
    /// Its control socket, in place of the configuration's
    #[arg(long, value_name = "PATH", env = "CLR_DEVICE_SOCKET")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum RemoteCommand {
    /// Carry the update protocol between standard input and output and the running device
    ///
    /// For hosts that reach the device through ssh: `clr push birds.clr --to exec:'ssh robot clr-device stdio'`.
    Stdio(Target),
    /// What the running device is doing, as JSON
    Status(Target),
    /// The tasks of the running device, as JSON
    List(Target),
    /// Let a task answer from the next frame on; `auto` lets the device choose
    Switch(TaskArgs),
    /// Go back to the adapter before
    Rollback(TaskArgs),
    /// Go back to the publisher's original of what the device tuned
    Restore(TaskArgs),
    /// Forget a task
    Remove(TaskArgs),
    /// Confirm the adapter on trial
    MarkGood(TaskArgs),
    /// Take back the adapter on trial, or the one confirmed last
    MarkBad(TaskArgs),
    /// File pictures under a label, for tuning
    Teach(TeachArgs),
}

#[derive(Args, Debug)]
pub(super) struct TaskArgs {
    /// The task
    task: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
pub(super) struct TeachArgs {
    /// The task
    #[arg(short, long, value_name = "NAME")]
    task: String,
    /// What the pictures show
    #[arg(short, long, value_name = "LABEL")]
    label: String,
    /// The pictures: JPEG, PNG, BMP or WebP
    #[arg(required = true, value_name = "FILE")]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Why a command to the device failed.
#[derive(Debug, thiserror::Error)]
enum RemoteError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Other(String),
}

impl Target {
    fn socket(&self) -> Result<PathBuf, RemoteError> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(config)) => Ok(Config::read(config)
                .map_err(|error| RemoteError::Other(error.to_string()))?
                .socket()),
            (None, None) => Err(RemoteError::Other(
                "which device?\nhint: give --config with the file that the device runs with, or --socket".to_owned(),
            )),
        }
    }

    fn client<T>(&self, act: impl FnOnce(&mut DeviceClient<'_>) -> Result<T, ClientError>) -> Result<T, RemoteError> {
        let endpoint = Endpoint::Unix(self.socket()?.display().to_string());
        let clock = SystemClock::default();
        let mut connect = || endpoint.connect();
        let mut client = Client::new(
            &mut connect as &mut dyn FnMut() -> Result<Link, String>,
            &clock,
            endpoint.options(),
        );
        Ok(act(&mut client)?)
    }
}

type DeviceClient<'c> = Client<'c, Link, &'c mut dyn FnMut() -> Result<Link, String>>;

/// Carries out a command; exit codes stand in `clr-device --help`.
pub(super) fn run(command: &RemoteCommand) -> ExitCode {
    match carry_out(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let refused = matches!(error, RemoteError::Client(ClientError::Refused(_)));
            eprintln!("error: {error}");
            ExitCode::from(if refused { REFUSED } else { 1 })
        }
    }
}

#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the methods themselves are not general enough in the client's lifetime"
)]
fn carry_out(command: &RemoteCommand) -> Result<(), RemoteError> {
    match command {
        RemoteCommand::Stdio(target) => bridge(&target.socket()?),
        RemoteCommand::Status(target) => print(&target.client(|client| client.status())?),
        RemoteCommand::List(target) => print(&target.client(|client| client.list())?),
        RemoteCommand::Switch(args) => args.target.client(|client| client.switch(&args.task)),
        RemoteCommand::Rollback(args) => args.target.client(|client| client.rollback(&args.task)),
        RemoteCommand::Restore(args) => args.target.client(|client| client.restore(&args.task)),
        RemoteCommand::Remove(args) => args.target.client(|client| client.remove(&args.task)),
        RemoteCommand::MarkGood(args) => args.target.client(|client| client.mark_good(&args.task)),
        RemoteCommand::MarkBad(args) => args.target.client(|client| client.mark_bad(&args.task)),
        RemoteCommand::Teach(args) => teach(args),
    }
}

fn print<T: serde::Serialize>(value: &T) -> Result<(), RemoteError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| RemoteError::Other(error.to_string()))?;
    println!("{text}");
    Ok(())
}

fn teach(args: &TeachArgs) -> Result<(), RemoteError> {
    let (mut added, mut known) = (0, 0);
    for path in &args.pictures {
        let bytes = std::fs::read(path)
            .map_err(|error| RemoteError::Other(format!("cannot read '{}': {error}", path.display())))?;
        let kind = Kind::Example {
            task: args.task.clone(),
            label: args.label.clone(),
        };
        match args
            .target
            .client(|client| client.push(&bytes, kind, &mut |_| {}))?
            .committed
        {
            Committed::Example { duplicate: true, .. } => known += 1,
            _ => added += 1,
        }
    }
    println!(
        "{added} pictures filed under `{}` of task `{}`, {known} were there already",
        args.label, args.task
    );
    Ok(())
}

/// Copies both ways until either side ends.
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
        // The host hung up: the device shall see it.
        let _ = to_device.shutdown(std::net::Shutdown::Write);
    });
    let mut from_device = stream;
    let mut output = std::io::stdout().lock();
    let mut buffer = [0; 16 << 10];
    loop {
        match from_device.read(&mut buffer) {
            Ok(0) => return Ok(()),
            // A frame must not wait in a buffer.
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
