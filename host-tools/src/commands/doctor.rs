//! `clr doctor`.

use std::path::PathBuf;

use clap::Args;
use clr_training::{Outcome, inspect::Severity};
use serde::Serialize;

use super::{Context, layout_args::LayoutArgs};
use crate::{
    doctor::{self, Report},
    scan_log,
};

/// Check a folder of images before training
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr doctor photos/\n\nErrors (exit code 1): unreadable files, the same image in two \
                  splits or under two labels, empty or unknown classes, ambiguous folders. Warnings (exit code 0): \
                  files left out by kind or place, duplicates within a split, near-duplicates across splits, \
                  imbalance, small images and classes, images of one colour, 16-bit images that use only their \
                  lowest bits. Notes: how folders, transparency and further frames are read."
)]
pub(crate) struct DoctorArgs {
    /// Folder of class folders, or of splits with class folders
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Maximum number of printed findings of a kind
    #[arg(long, default_value_t = 10, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    layout: LayoutArgs,
}

#[derive(Serialize)]
struct Document<'a> {
    errors: usize,
    warnings: usize,
    #[serde(flatten)]
    report: &'a Report,
}

pub(crate) fn run(args: &DoctorArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let bar = context.output.bar(0, "looking at images");
    let length = |total| bar.set_length(total as u64);
    let report = doctor::examine(&args.data, &args.layout.options(), &length, &|| bar.inc(1))?;
    bar.finish_and_clear();
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
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
    for (split, classes) in &report.splits {
        let total: usize = classes.values().sum();
        let list: Vec<String> = classes
            .iter()
            .map(|(class, count)| format!("{class} {count}"))
            .collect();
        output.line(&format!(
            "{split}: {total} images in {} classes: {}",
            classes.len(),
            list.join(", ")
        ))?;
    }
    output.line(&report.scan.images())?;
    for line in report
        .scan
        .lines
        .iter()
        .filter(|line| line.outcome == Outcome::PassedOver)
    {
        output.line(&format!("passed over: {}", line.text(scan_log::NAMED)))?;
    }
    if !report.near_duplicates_checked {
        output.line("too many images: near-duplicates were not searched for")?;
    }
    let mut kinds: Vec<&str> = report.findings.iter().map(|finding| finding.kind).collect();
    kinds.dedup();
    for kind in kinds {
        let of_kind: Vec<_> = report.findings.iter().filter(|finding| finding.kind == kind).collect();
        for finding in of_kind.iter().take(limit) {
            let level = match finding.level {
                Severity::Error => "error",
                Severity::Warning => "warning",
                _ => "note",
            };
            output.line(&format!("{level}: {}", finding.message))?;
        }
        if of_kind.len() > limit {
            output.line(&format!("  and {} more of this kind ({kind})", of_kind.len() - limit))?;
        }
    }
    Ok(())
}
