//! `clr continual report`.

use std::path::PathBuf;

use clap::Args;
use clr_continual::report::{Spread, Summary, accuracy_over_size_svg, average_accuracy_svg, first_task_svg, html};

use super::read_plan;
use crate::{
    backbones::read_backbone,
    commands::Context,
    destination::write_atomically,
    output::{Table, document, human_bytes},
};

/// Write the results as HTML, JSON, CSV and SVG, and print a table
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr continual report results/\n\nWrites report.html, which needs no other file, report.json, cells.csv, first-task.svg, all-tasks.svg and accuracy-over-size.svg to the folder. Jobs that are not finished are listed and left out."
)]
pub(crate) struct ReportArgs {
    /// Output folder of `clr continual run`
    #[arg(value_name = "FOLDER")]
    results: PathBuf,
}

pub(crate) fn run(args: &ReportArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let plan = read_plan(&args.results)?;
    let backbone = read_backbone(&plan.backbone)?;
    let summary = Summary::read(&plan, &backbone, &args.results)?;
    anyhow::ensure!(
        !summary.methods.is_empty(),
        "no job of '{}' is finished\nhint: `clr continual run` continues it",
        args.results.display()
    );
    for (name, text) in [
        ("report.html", html(&summary)?),
        ("report.json", document("continual-report", &summary)? + "\n"),
        ("cells.csv", summary.csv()),
        ("first-task.svg", first_task_svg(&summary)?),
        ("all-tasks.svg", average_accuracy_svg(&summary)?),
        ("accuracy-over-size.svg", accuracy_over_size_svg(&summary)?),
    ] {
        write_atomically(&args.results.join(name), text.as_bytes())?;
    }
    if context.output.json {
        context.output.document("continual-report", &summary)?;
        return Ok(0);
    }
    let mut table = Table::new([
        "method",
        "seeds",
        "average accuracy",
        "forgetting",
        "backward transfer",
        "stored per task",
        "head",
        "for training",
        "time",
    ]);
    for method in &summary.methods {
        table.row([
            method.method.clone(),
            method.seeds.len().to_string(),
            percent(method.average_accuracy),
            percent(method.forgetting),
            percent(method.backward_transfer),
            human_bytes(method.bytes_per_task as u64),
            human_bytes(method.head_bytes_per_task as u64),
            human_bytes(method.training_bytes as u64),
            method
                .relative_seconds
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    context.output.table(&table)?;
    for missing in &summary.missing {
        tracing::warn!("{missing} is not finished");
    }
    tracing::info!("report written to {}", args.results.join("report.html").display());
    Ok(0)
}

fn percent(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), Spread::percent)
}
