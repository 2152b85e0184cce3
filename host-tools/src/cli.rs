//! Definition of the command line, for parsing, help and completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;

/// One frozen network, many tasks of about twenty kilobytes each
#[derive(Debug, Parser)]
#[command(
    name = "clr",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 training network and device engine disagree, 4 a \
                  download failed or its checksum is wrong, 5 a device cannot be reached, 6 a device refused.\nData \
                  goes to stdout, progress and logs to stderr."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Print one JSON document to stdout instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more: -v for details, -vv for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log errors only, no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Folder for downloads [default: clr in the platform's cache folder]
    #[arg(
        long,
        global = true,
        env = "CLR_CACHE",
        value_name = "FOLDER",
        hide_env_values = true
    )]
    pub(crate) cache: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(commands::demo::DemoArgs),
    Fetch(commands::fetch::FetchArgs),
    Import(commands::import::ImportArgs),
    Background(commands::background::BackgroundArgs),
    Quantize(commands::quantize::QuantizeArgs),
    Convert(commands::convert::ConvertArgs),
    Train(commands::train::TrainArgs),
    Eval(commands::eval::EvalArgs),
    Classify(commands::classify::ClassifyArgs),
    Inspect(commands::inspect::InspectArgs),
    Export(commands::export::ExportArgs),
    Merge(commands::merge::MergeArgs),
    Keygen(commands::keygen::KeygenArgs),
    Sign(commands::sign::SignArgs),
    Verify(commands::verify::VerifyArgs),
    Push(commands::push::PushArgs),
    Pull(commands::pull::PullArgs),
    Device(commands::device::DeviceCommand),
    Doctor(commands::doctor::DoctorArgs),
    Bench(commands::bench::BenchArgs),
    Continual(commands::continual::ContinualCommand),
    Completions(commands::completions::CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains("Example") && help.contains("clr "),
                "{} has no example",
                command.get_name()
            );
            assert!(
                command.get_about().is_some(),
                "{} has no description",
                command.get_name()
            );
        }
    }

    #[test]
    fn the_first_line_of_help_is_short_and_without_a_full_stop() {
        fn check(command: &clap::Command) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let options = command.get_arguments().filter(|argument| !argument.is_hide_set());
            let texts =
                options.filter_map(|argument| Some((argument.get_id().to_string(), argument.get_help()?.to_string())));
            for (name, text) in texts.chain([(command.get_name().to_owned(), about)]) {
                let shown = text.split(" [default").next().unwrap_or_default();
                assert!(
                    shown.chars().count() <= 72 && !shown.ends_with('.'),
                    "{} {name}: {text}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn options_that_were_renamed_keep_their_old_names() {
        for old in [
            &["clr", "sign", "--key", "k", "--release", "4", "birds.clr"][..],
            &[
                "clr",
                "push",
                "--to",
                "unix:/run/clr/control.sock",
                "--whole",
                "birds.clr",
            ],
            &["clr", "device", "tune", "birds", "--max-ram", "300M"],
        ] {
            assert!(Cli::try_parse_from(old).is_ok(), "{old:?}");
        }
    }

    #[test]
    fn global_options_go_anywhere() {
        let cli = Cli::try_parse_from(["clr", "fetch", "--json", "digits", "-v"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.verbose, 1);
        assert!(Cli::try_parse_from(["clr", "-q", "-v", "fetch"]).is_err());
    }
}
