//! The command line of `clr-device`.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use clr_transfer::VERSIONS;
use sd_notify::NotifyState;
use tracing_subscriber::EnvFilter;

use super::{
    Config, DaemonError, check,
    connections::Connections,
    descriptors::{self, Descriptors},
    http,
    inference::{self, Beside, ToBeside},
    opened::{self, Opened},
    remote::{self, RemoteCommand},
    runtime::{Runtime, with_causes},
    say,
    signals::{self, Request},
    source::{Source, Stop},
    warnings,
};

/// The device's part of CLR: classifies a live source, takes signed adapters, switches tasks between two frames.
#[derive(Debug, Parser)]
#[command(
    name = "clr-device",
    version,
    about,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 the device refused.\nAnswers go to stdout, one JSON line a \
                  frame; logs go to stderr."
)]
struct Cli {
    /// Log more: -v for details, -vv for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    Verify(VerifyArgs),
    #[command(flatten)]
    Remote(RemoteCommand),
}

/// Run the device until its source ends or SIGTERM comes
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  clr-device run --config device.toml")]
struct RunArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", env = "CLR_DEVICE_CONFIG")]
    config: PathBuf,
    /// Start with this task in place of the configuration's
    #[arg(short, long, value_name = "NAME")]
    task: Option<String>,
    /// Open what the run would open, say what stops it, then end
    #[arg(long)]
    check_config: bool,
}

/// Walk through the store and check every file in it; the device must not be running
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  clr-device verify --config device.toml")]
struct VerifyArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", env = "CLR_DEVICE_CONFIG")]
    config: PathBuf,
}

/// Runs the command line; exit codes stand in `clr-device --help`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.verbose);
    let done = match cli.command {
        Command::Run(args) => run(&args),
        Command::Verify(args) => verify(&args),
        Command::Remote(command) => return remote::run(&command),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Logs to stderr. Under systemd, time and colour are the journal's business.
fn start_logging(verbose: u8) {
    let level = [
        "warn,clr_device=info,clr_store=info",
        "info,clr_device=debug,clr_store=debug",
        "debug",
    ];
    let filter =
        EnvFilter::try_from_env("CLR_LOG").unwrap_or_else(|_| EnvFilter::new(level[usize::from(verbose.min(2))]));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        // A full disk under the log would be reported to where the log goes, and there end the thread.
        .log_internal_errors(false)
        .with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        format.without_time().init();
    } else {
        format.init();
    }
}

fn run(args: &RunArgs) -> Result<ExitCode, DaemonError> {
    let mut config = Config::read(&args.config)?;
    config.task = args.task.clone().or(config.task);
    if args.check_config {
        return check::run(&config, &args.config);
    }
    warnings::log(&warnings::warnings(&config, &args.config));
    let descriptors = descriptors::prepare(&config);
    let stop = Stop::default();
    let runtime = Runtime::start(config.clone(), stop.clone())?;
    let opened = Opened::open(&config)?;
    listen_for_signals(&runtime, &args.config, &stop)?;

    let connections = Arc::new(Connections::default());
    connections.unix(&runtime, opened.control)?;
    if let Some(listener) = opened.tcp {
        tracing::info!(address = %opened::address(&listener)?, "listening for hosts");
        connections.tcp(&runtime, listener)?;
    }
    if let (Some(serial), Some(line)) = (&config.serial, opened.serial) {
        Connections::serial(&runtime, serial, line)?;
    }
    if let (Some(listener), Some(limits)) = (opened.http, descriptors.http) {
        tracing::info!(address = %opened::address(&listener)?, "listening for HTTP");
        http::serve(listener, limits, Arc::<Runtime>::clone(&runtime), stop.clone())?;
    }
    let source = Source::start(&config.source, &stop)?;
    let (beside, writer) = write_beside(&runtime)?;
    notify(&[NotifyState::Ready]);
    log_limits(&config, &descriptors);
    tracing::info!(
        software = env!("CARGO_PKG_VERSION"),
        device = config.name,
        backbone = runtime.engine.backbone().digest().short(),
        tasks = runtime.serving.tasks().len(),
        active = runtime.active_task(),
        socket = %config.socket().display(),
        "ready"
    );

    let mut tick = || notify(&[NotifyState::Watchdog]);
    let ended = inference::run(&runtime, source.as_ref(), &mut io::stdout(), &beside, &mut tick);
    notify(&[NotifyState::Stopping]);
    stop.set();
    drop(beside);
    if let Some(source) = source {
        source.stop();
    }
    // A confirmation that was earned is written before the end.
    let _ = writer.join();
    // Nothing listens any more; a socket left behind would only mislead.
    let _ = std::fs::remove_file(config.socket());
    match ended {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(DaemonError::io("cannot write answers to stdout")(error))
        }
        _ => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Logs the limits in force and the versions spoken.
fn log_limits(config: &Config, descriptors: &Descriptors) {
    let limits = &config.limits;
    tracing::info!(
        protocol = format_args!("{} to {}", VERSIONS.start(), VERSIONS.end()),
        adapter_bytes = limits.adapter_bytes,
        example_bytes = limits.example_bytes,
        examples_per_task = limits.examples_per_task,
        connections = limits.connections,
        http_connections = descriptors.http.map(|http| http.connections),
        http_body_bytes = descriptors.http.map(|http| http.body_bytes),
        open_files = descriptors.limit,
        "limits"
    );
}

/// Tells systemd, where it started this process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {error}");
    }
}

fn listen_for_signals(runtime: &Arc<Runtime>, config: &Path, stop: &Stop) -> Result<(), DaemonError> {
    let (runtime, config, stop) = (Arc::clone(runtime), config.to_owned(), stop.clone());
    signals::listen(move |request| match request {
        Request::Stop => {
            tracing::info!("stopping");
            stop.set();
        }
        Request::Reload => match runtime.reload(&config) {
            Ok(()) => tracing::info!("configuration read again"),
            Err(error) => tracing::error!("the old configuration stays: {}", with_causes(&error)),
        },
    })
}

/// Writes to the disk on a thread of its own: a slow disk must not hold up frames.
fn write_beside(runtime: &Arc<Runtime>) -> Result<(ToBeside, thread::JoinHandle<()>), DaemonError> {
    const WAITING: usize = 4;
    let (sender, receiver) = mpsc::sync_channel(WAITING);
    let runtime = Arc::clone(runtime);
    let thread = thread::Builder::new()
        .name("clr-beside".to_owned())
        .spawn(move || {
            loop {
                let work = receiver.recv_timeout(Duration::from_secs(1));
                runtime.write_what_waits(false);
                match work {
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return runtime.write_what_waits(true),
                    // Where it fails the adapter stays on trial, goes on serving, and is confirmed with one of its next frames.
                    Ok(Beside::Confirm(adapter)) => {
                        if let Err(error) = runtime.confirm(&adapter) {
                            tracing::error!(task = adapter.task(), "cannot confirm: {}", with_causes(&error));
                        }
                    }
                    Ok(Beside::Keep { task, bytes }) => runtime.keep_frame(&task, &bytes),
                }
            }
        })
        .map_err(DaemonError::io("cannot start the writing thread"))?;
    Ok((sender, thread))
}

fn verify(args: &VerifyArgs) -> Result<ExitCode, DaemonError> {
    let config = Config::read(&args.config)?;
    let backbone = clr_onnx::Backbone::load(&config.backbone).map_err(crate::EngineError::from)?;
    let trust = config.trust(None)?;
    let store =
        clr_store::Store::open_directory(&config.store(), clr_store::StoreOptions::new(backbone.digest(), trust))?;
    let report = store.verify()?;
    line(format_args!(
        "{} tasks, {} adapters, {} labelled pictures, {} checkpoints, {} uploads under way, {} bytes",
        report.tasks, report.adapters, report.examples, report.checkpoints, report.uploads, report.bytes
    ))?;
    for problem in &report.problems {
        line(format_args!("problem: {problem}"))?;
    }
    if report.problems.is_empty() {
        line(format_args!("all sound"))?;
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// A line of what a command prints.
fn line(text: std::fmt::Arguments<'_>) -> Result<(), DaemonError> {
    say(text).map_err(DaemonError::io("cannot write to stdout"))
}
