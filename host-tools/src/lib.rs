//! The program `clr`: fetch, import, train, evaluate, inspect, export, merge, classify and bench.
//!
//! It is a library only so that the end-to-end tests can build the program too. It exports [`main`] alone.
#![deny(unsafe_code)]

mod backbones;
mod batches;
mod bench;
mod check_images;
mod cli;
mod commands;
mod copies;
mod destination;
mod device;
mod doctor;
mod exit;
mod forgetting;
mod known_devices;
mod learn;
mod output;
mod scan_log;
mod system_error;

use std::{io::IsTerminal, process::ExitCode};

use clap::{CommandFactory as _, Parser};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    cli::{Cli, Command},
    output::Output,
};

/// Runs the command line; `clr --help` lists the exit codes.
#[must_use]
pub fn main() -> ExitCode {
    quiet_candle();
    let cli = Cli::parse();
    let output = Output::new(cli.global.json, cli.global.quiet);
    start_logging(cli.global.verbose, cli.global.quiet);
    match run(cli, &output) {
        Ok(code) => ExitCode::from(code),
        Err(error) if exit::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(exit::report(&output, &error)),
    }
}

/// Limits candle's thread pool, so that the CPU cores are left to the training operators' own threads. The pool spins
/// while it waits, which took a fifth of the CPU time of a run (24.7 s compared with 19.5 s, for two epochs of 600
/// images at 96 px on 2 cores).
#[expect(
    unsafe_code,
    reason = "setting a variable of the process is unsafe, and candle offers no other way"
)]
fn quiet_candle() {
    const VARIABLE: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: `main` calls this first, before another thread exists that could read the environment.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}

fn run(cli: Cli, output: &Output) -> anyhow::Result<u8> {
    let context = commands::Context {
        output,
        cache: cli.global.cache,
    };
    match cli.command {
        Command::Demo(args) => commands::demo::run(&args, &context),
        Command::Fetch(args) => commands::fetch::run(&args, &context),
        Command::Import(args) => commands::import::run(&args, &context),
        Command::Train(args) => commands::train::run(&args, &context),
        Command::Eval(args) => commands::eval::run(&args, &context),
        Command::Classify(args) => commands::classify::run(&args, &context),
        Command::Inspect(args) => commands::inspect::run(&args, &context),
        Command::Export(args) => commands::export::run(&args, &context),
        Command::Merge(args) => commands::merge::run(&args, &context),
        Command::Keygen(args) => commands::keygen::run(&args, &context),
        Command::Background(args) => commands::background::run(&args, &context),
        Command::Quantize(args) => commands::quantize::run(&args, &context),
        Command::Convert(args) => commands::convert::run(&args, &context),
        Command::Sign(args) => commands::sign::run(&args, &context),
        Command::Verify(args) => commands::verify::run(&args, &context),
        Command::Push(args) => commands::push::run(&args, &context),
        Command::Pull(args) => commands::pull::run(&args, &context),
        Command::Device(args) => commands::device::run(&args, &context),
        Command::Doctor(args) => commands::doctor::run(&args, &context),
        Command::Bench(args) => commands::bench::run(&args, &context),
        Command::Continual(args) => commands::continual::run(&args, &context),
        Command::Completions(args) => commands::completions::run(&args, Cli::command(), &context),
    }
}

/// Starts logging to stderr: this project's crates at level info, others at warn. `-v`, `-vv` and `-q` change the
/// levels, and `CLR_LOG` overrides them.
fn start_logging(verbose: u8, quiet: bool) {
    let directives = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => {
            "warn,usvg=error,resvg=error,clr=info,clr_host_tools=info,clr_onnx=warn,clr_training=info,clr_engine=warn,clr_fetch=info,clr_quantisation=info"
        }
        (false, 1) => {
            "info,clr=debug,clr_host_tools=debug,clr_onnx=debug,clr_training=debug,clr_engine=debug,clr_fetch=debug,clr_quantisation=debug"
        }
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("CLR_LOG").unwrap_or_else(|_| EnvFilter::new(directives));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .without_time()
        .with_target(LevelFilter::current() >= LevelFilter::DEBUG)
        .init();
}
