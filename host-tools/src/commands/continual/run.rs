//! `clr continual run`.

use std::path::PathBuf;

use clr_continual::keep_freed_memory;
use serde::Serialize;

use super::{
    PLAN,
    args::RunArgs,
    jobs::{FinishedJob, run_jobs},
    planning::{Planned, planned, planned_before},
};
use crate::{commands::Context, destination::try_folder};

/// The end of a run.
#[derive(Serialize)]
struct Document {
    results: PathBuf,
    jobs: Vec<FinishedJob>,
}

pub(crate) fn run(args: &RunArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    try_folder(&args.output, 256 << 20)?;
    keep_freed_memory();
    let Planned { plan, backbone, wanted } = match args.job {
        Some(index) => planned_before(&args.output, index)?,
        None => planned(args, context)?,
    };
    if args.plan_only {
        context.output.line(&format!(
            "{}\t{} jobs",
            args.output.join(PLAN).display(),
            plan.jobs.len()
        ))?;
        return Ok(0);
    }
    let parallel = args.jobs as usize;
    let finished = run_jobs(&plan, &wanted, &backbone, parallel, &args.output, context.output)?;
    let document = Document {
        results: args.output.clone(),
        jobs: finished,
    };
    if context.output.json {
        context.output.document("continual-run", &document)?;
    } else {
        for job in &document.jobs {
            let accuracy = job
                .average_accuracy
                .map(|accuracy| format!("{:.1} %", 100.0 * accuracy));
            let accuracy = accuracy.unwrap_or_else(|| "diverged".to_owned());
            let line = format!("{}\tseed {}\t{accuracy}", job.method, job.seed);
            context.output.line(&line)?;
        }
        tracing::info!("show the results with `clr continual report {}`", args.output.display());
    }
    Ok(0)
}
