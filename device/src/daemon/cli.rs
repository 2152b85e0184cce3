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
use sd_notify::NotifyState;
use tracing_subscriber::EnvFilter;

use super::{
    Config, DaemonError,
    access::{self, Access},
    connections::Connections,
    http,
    inference::{self, Beside, ToBeside},
    remote::{self, RemoteCommand},
    runtime::{Runtime, with_causes},
    say,
    signals::{self, Request},
    source::{Source, Stop},
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
    Audit(AuditArgs),
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
    /// Check the configuration and the files it names, then end
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

/// Check the chain of the audit log; the device may be running
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  clr-device audit --config device.toml")]
struct AuditArgs {
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
        Command::Audit(args) => audit(&args),
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
        return check(&config, &args.config);
    }
    let stop = Stop::default();
    let runtime = Runtime::start(config.clone(), stop.clone())?;
    let access = Arc::new(Access::open(&config));
    listen_for_signals(&runtime, &access, &args.config, &stop)?;

    let connections = Arc::new(Connections::new(&runtime, &access));
    connections.unix(&config.socket(), config.control.group.as_deref())?;
    if let Some(tcp) = &config.tcp {
        let address = connections.tcp(tcp.listen)?;
        tracing::info!(%address, "listening for hosts");
    }
    if let Some(serial) = &config.serial {
        connections.serial(serial)?;
    }
    if let Some(config) = &config.http {
        let address = http::serve(config.listen, Arc::<Runtime>::clone(&runtime), stop.clone())?;
        tracing::info!(%address, "listening for HTTP");
    }
    let source = Source::start(&config.source, &stop)?;
    let (beside, writer) = write_beside(&runtime)?;
    notify(&[NotifyState::Ready]);
    tracing::info!(
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

/// Tells systemd, where it started this process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {error}");
    }
}

fn listen_for_signals(
    runtime: &Arc<Runtime>,
    access: &Arc<Access>,
    config: &Path,
    stop: &Stop,
) -> Result<(), DaemonError> {
    let (runtime, access) = (Arc::clone(runtime), Arc::clone(access));
    let (config, stop) = (config.to_owned(), stop.clone());
    signals::listen(move |request| match request {
        Request::Stop => {
            tracing::info!("stopping");
            stop.set();
        }
        Request::Reload => match runtime.reload(&config) {
            Ok(()) => {
                access.reload(&runtime.config.load());
                tracing::info!("configuration read again");
            }
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

/// What `run` would need, without running.
fn check(config: &Config, path: &Path) -> Result<ExitCode, DaemonError> {
    config.trust(None)?;
    let backbone = clr_onnx::Backbone::load(&config.backbone).map_err(crate::EngineError::from)?;
    line(format_args!("configuration  {}", path.display()))?;
    line(format_args!(
        "backbone       {} ({})",
        backbone.name(),
        backbone.digest()
    ))?;
    line(format_args!("state          {}", config.state.display()))?;
    line(format_args!("keys trusted   {}", config.trust.keys.len()))?;
    line(format_args!("source         {:?}", config.source))?;
    line(format_args!("control        {}", config.socket().display()))?;
    Ok(ExitCode::SUCCESS)
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

fn audit(args: &AuditArgs) -> Result<ExitCode, DaemonError> {
    let report = access::check_audit(&Config::read(&args.config)?.state);
    line(format_args!(
        "{} lines, number {} to {}",
        report.lines, report.first, report.last
    ))?;
    if report.torn > 0 {
        line(format_args!(
            "{} bytes of a line that is being written, or was cut by a power cut",
            report.torn
        ))?;
    }
    for problem in &report.problems {
        line(format_args!("problem: {problem}"))?;
    }
    if report.problems.is_empty() {
        line(format_args!("the chain holds"))?;
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// A line of what a command prints.
fn line(text: std::fmt::Arguments<'_>) -> Result<(), DaemonError> {
    say(text).map_err(DaemonError::io("cannot write to stdout"))
}
