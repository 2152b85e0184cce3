//! `clr doctor`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::doctor::{self, Level, Report};

/// Look for what is wrong with a folder of pictures before training
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr doctor photos/\n\nErrors (exit 1): unreadable files, the same picture in two splits or \
                        under two labels, empty or unknown classes.\nWarnings (exit 0): duplicates within a split, \
                        near-duplicates across splits, imbalance, small pictures and classes."
)]
pub(crate) struct DoctorArgs {
    /// A folder of class folders, or of train/, val/, test/ with class folders
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Print at most this many findings of a kind
    #[arg(long, default_value_t = 10, value_name = "N")]
    limit: usize,
}

#[derive(Serialize)]
struct Document<'a> {
    errors: usize,
    warnings: usize,
    #[serde(flatten)]
    report: &'a Report,
}

pub(crate) fn run(args: &DoctorArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let bar = context.output.bar(0, "looking at pictures");
    let report = doctor::examine(&args.data, &|total| bar.set_length(total as u64), &|| bar.inc(1))
        .with_context(|| format!("cannot read '{}'", args.data.display()))?;
    bar.finish_and_clear();
    let (errors, warnings) = (report.count(Level::Error), report.count(Level::Warning));
    if context.output.json {
        context.output.document(
            "doctor",
            &Document {
                errors,
                warnings,
                report: &report,
            },
        )?;
    } else {
        print(&report, args.limit, context)?;
        context.output.line(&format!("{errors} errors, {warnings} warnings"))?;
    }
    Ok(u8::from(errors > 0))
}

fn print(report: &Report, limit: usize, context: &Context<'_>) -> std::io::Result<()> {
    let output = context.output;
    for split in ["all", "train", "val", "valid", "validation", "test"] {
        let Some(classes) = report.splits.get(split) else {
            continue;
        };
        let total: usize = classes.values().sum();
        let list: Vec<String> = classes
            .iter()
            .map(|(class, count)| format!("{class} {count}"))
            .collect();
        output.line(&format!(
            "{split}: {total} pictures in {} classes: {}",
            classes.len(),
            list.join(", ")
        ))?;
    }
    if report.ignored > 0 {
        output.line(&format!(
            "{} files are no pictures by their name and were ignored",
            report.ignored
        ))?;
    }
    if !report.near_duplicates_checked {
        output.line("too many pictures: near-duplicates were not looked for")?;
    }
    let mut kinds: Vec<&str> = report.findings.iter().map(|finding| finding.kind).collect();
    kinds.dedup();
    for kind in kinds {
        let of_kind: Vec<_> = report.findings.iter().filter(|finding| finding.kind == kind).collect();
        for finding in of_kind.iter().take(limit) {
            let level = match finding.level {
                Level::Error => "error",
                Level::Warning => "warning",
            };
            output.line(&format!("{level}: {}", finding.message))?;
        }
        if of_kind.len() > limit {
            output.line(&format!("  and {} more of this kind ({kind})", of_kind.len() - limit))?;
        }
    }
    Ok(())
}
