//! `clr continual`.

mod args;
mod folders;
mod jobs;
mod methods;
mod parallel;
mod planning;
mod presets;
mod report;
mod run;
mod settings;

use std::path::Path;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use clr_continual::run::Plan;

use super::Context;

/// Name of the plan in a results folder.
const PLAN: &str = "plan.json";

/// Compare methods of continual learning on a backbone
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  clr fetch lite0 signs climate furniture --to .\n  clr continual run --backbone lite0.onnx --tasks signs,climate,furniture -o results/\n  clr continual report results/\n\nMethods learn the tasks one after the other and are measured on all tasks so far after each. docs/reference/continual.md explains them."
)]
pub(crate) struct ContinualCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Run(args::RunArgs),
    Report(report::ReportArgs),
    /// List the methods and the values that are tried for their settings
    Methods,
}

pub(crate) fn run(command: &ContinualCommand, context: &Context<'_>) -> anyhow::Result<u8> {
    match &command.action {
        Action::Run(args) => run::run(args, context),
        Action::Report(args) => report::run(args, context),
        Action::Methods => methods::list(context),
    }
}

/// Reads the plan of a results folder.
fn read_plan(results: &Path) -> anyhow::Result<Plan> {
    let path = results.join(PLAN);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "'{}' cannot be read\nhint: give the output folder of `clr continual run`",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| format!("cannot parse the plan '{}'", path.display()))
}
