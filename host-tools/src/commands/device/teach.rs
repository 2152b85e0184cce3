//! `clr device teach`: pictures for the device to learn from.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use clr_transfer::{ClientError, EndpointClient, FailureCode, TunePhase, TuneRequest};
use serde::Serialize;

use super::Context;
use crate::commands::eval::pictures_in;

#[derive(Args, Debug)]
pub(super) struct TeachArgs {
    /// The task; a new name starts a new task
    #[arg(long, value_name = "TASK")]
    task: String,
    /// What the pictures show; a new label extends the task
    #[arg(long, value_name = "LABEL")]
    label: String,
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    paths: Vec<PathBuf>,
}

#[derive(Serialize)]
struct TeachDocument {
    task: String,
    label: String,
    added: usize,
    duplicates: usize,
    /// What the device made of them at once; none where it cannot learn.
    learned: Option<String>,
}

pub(super) fn run(args: &TeachArgs, client: &mut EndpointClient<'_>, context: &Context<'_>) -> anyhow::Result<u8> {
    let mut pictures = Vec::new();
    for path in &args.paths {
        pictures.extend(pictures_in(path)?);
    }
    let bar = context.output.bar(pictures.len() as u64, &args.label);
    let mut document = TeachDocument {
        task: args.task.clone(),
        label: args.label.clone(),
        added: 0,
        duplicates: 0,
        learned: None,
    };
    for picture in pictures {
        let bytes = std::fs::read(&picture).with_context(|| format!("cannot read '{}'", picture.display()))?;
        let new = client
            .teach(&args.task, &args.label, &bytes)
            .with_context(|| format!("while sending '{}'", picture.display()))?;
        if new {
            document.added += 1;
        } else {
            document.duplicates += 1;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    document.learned = prototype(&args.task, client)?;
    if context.output.json {
        context.output.document("device", &document)?;
    } else {
        context.output.line(&format!(
            "{}: {} pictures of {} filed, {} were there already",
            document.task, document.added, document.label, document.duplicates
        ))?;
        if let Some(learned) = &document.learned {
            context.output.line(&format!("{}: {learned}", document.task))?;
        }
    }
    Ok(0)
}

/// Lets a class that is new answer at once, by a prototype: a run of tuning without steps.
fn prototype(task: &str, client: &mut EndpointClient<'_>) -> anyhow::Result<Option<String>> {
    const STEP: Duration = Duration::from_millis(100);
    match client.tune(&TuneRequest::prototype(task)) {
        Err(ClientError::Refused(failure)) if failure.code == FailureCode::UNSUPPORTED => return Ok(None),
        started => started?,
    }
    let status = client.follow_tuning(STEP, &mut |_| ())?;
    match status.phase {
        TunePhase::Failed => bail!("{}", status.message.unwrap_or_default()),
        _ => Ok(status.message),
    }
}
