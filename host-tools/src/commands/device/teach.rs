//! `clr device teach`: adds labelled images of a class.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use clr_onnx::shrink_to_fit;
use clr_training::{Outcome, Scan, ScanReport, display_path};
use clr_transfer::{ClientError, EndpointClient, FailureCode, TeachBatch, TeachPhase, TeachStatus};
use serde::Serialize;

use super::Context;
use crate::scan_log;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr device teach --task digits --label cell photos/ --at tcp:robot.local:7171\n\nThe \
                  host scales images that exceed the device's limits. Unreadable images are reported and skipped. If \
                  the class resembles a known one, the device refuses it, names the known one, and removes the \
                  images."
)]
pub(super) struct TeachArgs {
    /// The task; a new name starts a new task
    #[arg(long, value_name = "TASK")]
    task: String,
    /// Class of the images; a new label extends the task
    #[arg(long, value_name = "LABEL")]
    label: String,
    /// Images, or folders of images
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    paths: Vec<PathBuf>,
}

#[derive(Serialize)]
struct TeachDocument<'a> {
    task: &'a str,
    label: &'a str,
    added: usize,
    duplicates: usize,
    /// Number of images that had another label.
    relabelled: usize,
    /// Number of images scaled down to the device's limit.
    scaled: usize,
    left_out: Vec<LeftOut>,
    scan: ScanReport,
    /// The immediate result on the device; `None` if the device cannot learn.
    learned: Option<&'a str>,
    phase: TeachPhase,
    recognised: u32,
    looks_like: Option<&'a str>,
}

/// A file that was not added, with the reason.
#[derive(Serialize)]
struct LeftOut {
    path: String,
    reason: String,
}

pub(super) fn run(args: &TeachArgs, client: &mut EndpointClient<'_>, context: &Context<'_>) -> anyhow::Result<u8> {
    let label = args.label.trim();
    anyhow::ensure!(
        !label.is_empty(),
        "the label is empty\nhint: --label NAME, the class of the images"
    );
    let (mut paths, mut scan) = (Vec::new(), ScanReport::default());
    for path in &args.paths {
        let found = Scan::of(path)?;
        paths.extend(found.images());
        scan.add(found.report([]), path);
    }
    scan_log::images(&scan);
    let mut left_out: Vec<LeftOut> = (scan.lines.iter())
        .filter(|line| line.outcome == Outcome::LeftOut)
        .flat_map(|line| {
            line.files.iter().map(|path| LeftOut {
                path: path.clone(),
                reason: format!("{}: {}", line.kind, line.reason),
            })
        })
        .collect();
    let mut batch = client.begin_batch(&args.task, label)?;
    let mut scaled = 0;
    let bar = context.output.bar(paths.len() as u64, label);
    for path in paths {
        match file_one(client, &mut batch, &path) {
            Ok(Ok(shrunk)) => scaled += usize::from(shrunk),
            Ok(Err(reason)) => left_out.push(LeftOut {
                path: display_path(&path),
                reason,
            }),
            Err(error) => {
                // A class is added completely or not at all.
                bar.finish_and_clear();
                client.undo_batch(&batch);
                return Err(anyhow::Error::new(error).context(format!("while sending '{}'", display_path(&path))));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for left in &left_out {
        tracing::warn!("left out: '{}': {}", left.path, left.reason);
    }
    if batch.is_empty() {
        bail!(
            "none of the {} images could be added: {}\nhint: PNG, JPEG, BMP, WebP, GIF, PNM and TIFF are read",
            left_out.len(),
            left_out.first().map_or("no image found", |left| left.reason.as_str())
        );
    }
    let status = client.finish_batch(&batch)?;
    let document = TeachDocument {
        task: &args.task,
        label,
        added: batch.added(),
        duplicates: batch.duplicates(),
        relabelled: batch.relabelled(),
        scaled,
        left_out,
        scan,
        learned: status.message.as_deref(),
        phase: status.phase,
        recognised: status.recognised,
        looks_like: status.looks_like.as_deref(),
    };
    if matches!(status.phase, TeachPhase::Refused | TeachPhase::Failed) {
        if context.output.json {
            context.output.document("device", &document)?;
        }
        return Err(refused(&status).into());
    }
    if context.output.json {
        context.output.document("device", &document)?;
    } else {
        print(&document, context)?;
    }
    if let Some(hint) = &status.hint {
        tracing::info!("hint: {hint}");
    }
    Ok(0)
}

fn refused(status: &TeachStatus) -> ClientError {
    let message = status.message.as_deref().unwrap_or("the class was not taught");
    let hint = status
        .hint
        .as_deref()
        .map(|hint| format!("\nhint: {hint}"))
        .unwrap_or_default();
    ClientError::Refused(clr_transfer::Failure::new(
        FailureCode::TUNING,
        format_args!("{message}{hint}"),
    ))
}

fn print(document: &TeachDocument<'_>, context: &Context<'_>) -> std::io::Result<()> {
    let TeachDocument { task, label, .. } = document;
    let mut line = format!(
        "{task}: {} images of {label} added, {} already stored",
        document.added, document.duplicates
    );
    for (count, what) in [
        (document.relabelled, "had another label before"),
        (document.scaled, "were scaled to fit"),
        (document.left_out.len(), "were left out"),
    ] {
        if count > 0 {
            line = format!("{line}, {count} {what}");
        }
    }
    context.output.line(&line)?;
    if let Some(learned) = document.learned {
        context.output.line(&format!("{task}: {learned}"))?;
    }
    Ok(())
}

/// Adds one image. Returns whether it was scaled, or why it cannot be added.
fn file_one(
    client: &mut EndpointClient<'_>,
    batch: &mut TeachBatch,
    path: &Path,
) -> Result<Result<bool, String>, ClientError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(format!("cannot be read: {error}"))),
    };
    let limits = batch.limits;
    let shrunk = match shrink_to_fit(bytes, "the file", limits.image_bytes, limits.input) {
        Ok(shrunk) => shrunk,
        Err(error) => return Ok(Err(crate::exit::describe(&error.into()).0)),
    };
    match client.add_to_batch(batch, &shrunk.bytes) {
        Ok(()) => Ok(Ok(shrunk.scaled)),
        // The device cannot decode this image, but may decode others. A refused label or a full store ends the command.
        Err(ClientError::Refused(failure))
            if failure.code == FailureCode::TOO_LARGE
                || (failure.code == FailureCode::EXAMPLES && !failure.message.starts_with("label ")) =>
        {
            Ok(Err(failure.message))
        }
        Err(error) => Err(error),
    }
}
