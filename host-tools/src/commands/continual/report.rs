//! `clr continual report`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use clr_continual::report::{
    Backbones, Difference, Spread, Summary, accuracy_over_size_svg, average_accuracy_svg, backbones_html,
    backbones_svg, first_task_svg, html,
};

use super::read_plan;
use crate::{
    backbones::read_backbone,
    commands::Context,
    destination::{try_folder, write_atomically},
    output::{Table, document, human_bytes},
};

/// Write the results as HTML, JSON, CSV and SVG, and print a table
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr continual report results/\n  clr continual report lite0/ squeezenet/ -o both/     compares backbones\n\n\
                  For one run: report.html, which needs no other file, report.json, cells.csv, first-task.svg, all-tasks.svg and accuracy-over-size.svg in its folder. For several runs of the same tasks: backbones.html, backbones.json, backbones.csv and backbones.svg in the folder of --output. Jobs that are not finished are listed and left out."
)]
pub(crate) struct ReportArgs {
    /// Output folders of `clr continual run`
    #[arg(value_name = "FOLDER", required = true)]
    results: Vec<PathBuf>,
    /// Folder of the report, required for several runs [default: that of the run]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &ReportArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    match args.results.as_slice() {
        [one] => of_one_run(one, args.output.as_deref().unwrap_or(one), context),
        several => {
            let output = args
                .output
                .as_deref()
                .context("no folder for the comparison\nhint: name one with `--output`")?;
            of_several_runs(several, output, context)
        }
    }
}

fn read(results: &Path) -> anyhow::Result<Summary> {
    let plan = read_plan(results)?;
    let backbone = read_backbone(&plan.backbone)?;
    let summary = Summary::read(&plan, &backbone, results)?;
    for diverged in &summary.diverged {
        tracing::warn!("{}: {diverged} diverged", results.display());
    }
    anyhow::ensure!(
        !summary.methods.is_empty(),
        "no job of '{}' is finished\nhint: `clr continual run` continues it",
        results.display()
    );
    for missing in &summary.missing {
        tracing::warn!("{}: {missing} is not finished", results.display());
    }
    Ok(summary)
}

fn write(folder: &Path, files: &[(&str, String)]) -> anyhow::Result<()> {
    try_folder(folder, 16 << 20)?;
    for (name, text) in files {
        write_atomically(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// Compares the runs of several backbones.
fn of_several_runs(runs: &[PathBuf], output: &Path, context: &Context<'_>) -> anyhow::Result<u8> {
    let folders: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
    let summaries = runs.iter().map(|run| read(run)).collect::<anyhow::Result<Vec<_>>>()?;
    let compared = Backbones::new(&folders, &summaries).context("the runs cannot be compared")?;
    write(
        output,
        &[
            ("backbones.html", backbones_html(&compared)?),
            ("backbones.json", document("continual-backbones", &compared)? + "\n"),
            ("backbones.csv", compared.csv()),
            ("backbones.svg", backbones_svg(&compared)?),
        ],
    )?;
    if context.output.json {
        context.output.document("continual-backbones", &compared)?;
        return Ok(0);
    }
    let mut table =
        Table::new(std::iter::once("average accuracy").chain(compared.backbones.iter().map(String::as_str)));
    for method in &compared.methods {
        let cells = method.average_accuracy.iter().map(|&spread| percent(spread));
        table.row(std::iter::once(method.method.clone()).chain(cells));
    }
    context.output.table(&table)?;
    tracing::info!("report written to {}", output.join("backbones.html").display());
    Ok(0)
}

fn of_one_run(results: &Path, output: &Path, context: &Context<'_>) -> anyhow::Result<u8> {
    let summary = read(results)?;
    write(
        output,
        &[
            ("report.html", html(&summary)?),
            ("report.json", document("continual-report", &summary)? + "\n"),
            ("cells.csv", summary.csv()),
            ("first-task.svg", first_task_svg(&summary)?),
            ("all-tasks.svg", average_accuracy_svg(&summary)?),
            ("accuracy-over-size.svg", accuracy_over_size_svg(&summary)?),
        ],
    )?;
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
        "against clr",
        "per task",
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
            method.against_clr.map_or_else(|| "-".to_owned(), Difference::points),
            human_bytes(method.bytes_per_task as u64),
            human_bytes(method.head_bytes_per_task as u64),
            human_bytes(method.training_bytes as u64),
            method
                .relative_seconds
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    context.output.table(&table)?;
    tracing::info!("report written to {}", output.join("report.html").display());
    Ok(0)
}

fn percent(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), Spread::percent)
}
