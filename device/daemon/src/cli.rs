//! The command line of `clr-device`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use clr_transfer::{SECURE_VERSION, VERSIONS};
use sd_notify::NotifyState;

use super::{
    Config, DaemonError,
    access::{self, Access},
    check,
    connections::Connections,
    descriptors::{self, Descriptors},
    error::with_causes,
    escape, http,
    inference::{self, Ended, WriteJob, WriteQueue},
    logging,
    opened::{self, Opened},
    output::ResultQueue,
    print_line,
    remote::{self, RemoteCommand},
    runtime::Runtime,
    signals::{self, Request},
    source::{Source, Stop},
    stderr,
    task_choice::TaskChoice,
    time, warnings,
};

/// Exit code if the process that reads the results has closed the pipe.
const READER_GONE: u8 = 4;

/// Classify a live source with one frozen network and many tasks; accept signed adapters
#[derive(Debug, Parser)]
#[command(
    name = "clr-device",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 the device refused, 4 the reader of the results \
                  is gone.\nResults go to stdout, one JSON line per image; logs go to stderr."
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
    #[command(name = "check-store", alias = "verify")]
    CheckStore(CheckStoreArgs),
    Audit(AuditArgs),
    #[command(flatten)]
    Remote(RemoteCommand),
}

/// Run the device until its source ends or SIGTERM arrives
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  clr-device run --config device.toml")]
struct RunArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", env = "CLR_DEVICE_CONFIG")]
    config: PathBuf,
    /// Task to start with; repeat it for a group [default: the configuration's]
    #[arg(short, long = "task", value_name = "NAME")]
    tasks: Vec<String>,
    /// Open everything that a run would open, report faults, then end
    #[arg(long)]
    check_config: bool,
}

/// Check every file in the store of a device that is not running
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  clr-device check-store --config device.toml")]
struct CheckStoreArgs {
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

/// Runs the command line; `clr-device --help` lists the exit codes.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose);
    let done = match cli.command {
        Command::Run(args) => run(&args),
        Command::CheckStore(args) => check_store(&args),
        Command::Audit(args) => audit(&args),
        Command::Remote(command) => return remote::run(&command),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            stderr::report(&with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> Result<ExitCode, DaemonError> {
    let mut config = Config::read(&args.config)?;
    if !args.tasks.is_empty() {
        config.task = Some(TaskChoice::of_names(&args.tasks)?);
    }
    if args.check_config {
        return check::run(&config, &args.config);
    }
    warnings::log(&warnings::warnings(&config, &args.config));
    let descriptors = descriptors::prepare(&config);
    let stop = Stop::default();
    let runtime = Runtime::start(config.clone(), stop.clone())?;
    #[cfg(feature = "tuning")]
    super::learning::Learner::of(&runtime).resume();
    let access = Arc::new(Access::open(&config));
    // As soon as connections are accepted, SIGTERM must end the device cleanly.
    listen_for_signals(&runtime, &access, &args.config, &stop)?;
    let opened = Opened::open(&config)?;

    let connections = Arc::new(Connections::new(&runtime, &access));
    let socket = match opened.control {
        Some((path, listener)) => {
            connections.unix(listener)?;
            Some(path)
        }
        None => None,
    };
    if let Some(listener) = opened.tcp {
        tracing::info!(address = %opened::address(&listener)?, "listening for hosts");
        connections.tcp(listener)?;
    }
    if let (Some(serial), Some(line)) = (&config.serial, opened.serial) {
        connections.serial(serial, line)?;
    }
    if let (Some(listener), Some(limits)) = (opened.http, descriptors.http) {
        tracing::info!(address = %opened::address(&listener)?, "listening for HTTP");
        http::serve(listener, limits, Arc::<Runtime>::clone(&runtime), stop.clone())?;
    }
    let source = Source::start(
        &config.source,
        config.limits.image_bytes(),
        &stop,
        &runtime.counters.source,
    )?;
    let results = ResultQueue::to_stdout(Arc::clone(&runtime.counters.results_lost))?;
    let (writes, writer) = spawn_writer(&runtime)?;
    notify(&[NotifyState::Ready]);
    log_limits(&config, &descriptors);
    tracing::info!(
        software = env!("CARGO_PKG_VERSION"),
        device = config.name,
        backbone = runtime.engine.backbone().digest().short(),
        tasks = runtime.serving.tasks().len(),
        active = Some(runtime.selected_tasks().join(", ")).filter(|names| !names.is_empty()),
        socket = socket.as_deref().map(|path| path.display().to_string()),
        "ready"
    );

    let mut tick = || notify(&[NotifyState::Watchdog]);
    let ended = inference::run(&runtime, source.as_ref(), &results, &writes, &mut tick);
    notify(&[NotifyState::Stopping]);
    // If the stream has ended but the reader of the results is slow, SIGTERM limits the wait.
    results.finish(&stop);
    stop.set();
    drop(writes);
    let source = source.map_or(Ok(()), Source::stop);
    // A queued confirmation is still written.
    let _ = writer.join();
    runtime.close();
    // The listener is closed: remove its socket.
    if let Some(socket) = socket {
        let _ = std::fs::remove_file(socket);
    }
    source?;
    if ended == Ended::ReaderGone {
        tracing::error!("stopped: the reader of the results on stdout is gone");
        return Ok(ExitCode::from(READER_GONE));
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Logs the limits in effect and the supported protocol versions.
fn log_limits(config: &Config, descriptors: &Descriptors) {
    let limits = &config.limits;
    tracing::info!(
        protocol = format_args!("{} plain, {SECURE_VERSION} encrypted", VERSIONS.end()),
        adapter_bytes = limits.adapter_bytes,
        example_bytes = limits.example_bytes,
        examples_per_task = limits.examples_per_task,
        connections = limits.connections,
        peer_connections = limits.peer_connections,
        handshakes = limits.handshakes,
        http_connections = descriptors.http.map(|http| http.connections),
        http_body_bytes = descriptors.http.map(|http| http.body_bytes),
        open_files = descriptors.limit,
        "limits"
    );
}

/// Notifies systemd, if it started this process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
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
                tracing::info!("configuration reloaded");
            }
            Err(error) => tracing::error!(
                "cannot reload the configuration, the old one stays in force: {}",
                with_causes(&error)
            ),
        },
    })
}

/// Starts the thread that writes to the disk, so that a slow disk does not delay frames.
fn spawn_writer(runtime: &Arc<Runtime>) -> Result<(WriteQueue, thread::JoinHandle<()>), DaemonError> {
    const QUEUED: usize = 4;
    let (sender, receiver) = mpsc::sync_channel(QUEUED);
    let runtime = Arc::clone(runtime);
    let thread = thread::Builder::new()
        .name("clr-writer".to_owned())
        .spawn(move || {
            loop {
                let work = receiver.recv_timeout(Duration::from_secs(1));
                runtime.flush_pending(false);
                runtime.store.drop_stalled_uploads();
                runtime.flush_changes(false);
                time::tick(&runtime.store);
                match work {
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return runtime.flush_pending(true),
                    // If the write fails, the adapter stays on trial and keeps serving, and a later frame confirms it.
                    Ok(WriteJob::Confirm(adapter)) => {
                        if let Err(error) = runtime.confirm(&adapter) {
                            tracing::error!(task = adapter.task(), "cannot confirm: {}", with_causes(&error));
                        }
                    }
                    Ok(WriteJob::StoreFrame { task, bytes }) => runtime.keep_frame(&task, &bytes),
                }
            }
        })
        .map_err(DaemonError::io("cannot start the writing thread"))?;
    Ok((sender, thread))
}

fn check_store(args: &CheckStoreArgs) -> Result<ExitCode, DaemonError> {
    let config = Config::read(&args.config)?;
    let backbone =
        clr_onnx::Backbone::load_without_background(&config.backbone).map_err(clr_engine::EngineError::from)?;
    // Adapters tuned on the device are verified with the device's public key.
    let public = clr_adapters::read_public_key(&config.state.join("device.pub")).ok();
    let trust = config.trust(public)?;
    let store =
        clr_store::Store::open_directory(&config.store(), clr_store::StoreOptions::new(backbone.digest(), trust))?;
    let report = store.verify()?;
    line(format_args!(
        "{} tasks, {} adapters, {} labelled images, {} run states, {} uploads in progress, {} bytes",
        report.tasks, report.adapters, report.examples, report.checkpoints, report.uploads, report.bytes
    ))?;
    for problem in &report.problems {
        line(format_args!("problem: {problem}"))?;
    }
    if report.problems.is_empty() {
        line(format_args!("no problems found"))?;
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
            "{} bytes of an incomplete last line: in progress, or cut by a power failure",
            report.torn
        ))?;
    }
    for problem in &report.problems {
        line(format_args!("problem: {problem}"))?;
    }
    if report.problems.is_empty() {
        line(format_args!("the chain is intact"))?;
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// Prints a line of a command's result.
fn line(text: std::fmt::Arguments<'_>) -> Result<(), DaemonError> {
    print_line(format_args!("{}", escape::one_line(&text.to_string())))
        .map_err(DaemonError::io("cannot write to stdout"))
}
