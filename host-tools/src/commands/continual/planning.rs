//! The plan of a run.

use std::path::Path;

use anyhow::Context as _;
use clr_continual::{
    ImageLimits, registry,
    run::{Job, Plan, TUNING},
};
use clr_onnx::Backbone;

use super::{
    PLAN,
    args::RunArgs,
    folders::absolute,
    read_plan,
    settings::{settings, tuned},
};
use crate::{backbones::read_backbone, commands::Context, destination::write_atomically};

/// A plan, with its backbone at the plan's input size, and the indices of the jobs to run.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) backbone: Backbone,
    pub(super) wanted: Vec<usize>,
}

/// Reads a plan for one of its jobs.
pub(super) fn planned_before(results: &Path, index: usize) -> anyhow::Result<Planned> {
    let plan = read_plan(results)?;
    anyhow::ensure!(
        index < plan.jobs.len(),
        "no job {index} in the plan\nhint: indices are 0 to {}",
        plan.jobs.len().saturating_sub(1)
    );
    let backbone = resized(&plan.backbone, plan.size)?;
    check_backbone(&plan, &backbone)?;
    Ok(Planned {
        plan,
        backbone,
        wanted: vec![index],
    })
}

/// Reads a backbone at another input size.
fn resized(path: &Path, size: [u32; 2]) -> anyhow::Result<Backbone> {
    let backbone = read_backbone(path)?;
    let mut preprocessing = backbone.preprocessing().clone();
    [preprocessing.height, preprocessing.width] = size;
    Ok(backbone.with_preprocessing(preprocessing)?)
}

fn check_backbone(plan: &Plan, backbone: &Backbone) -> anyhow::Result<()> {
    anyhow::ensure!(
        plan.backbone_digest == backbone.digest().to_string(),
        "'{}' is not the backbone of the plan: expected {}, got {}",
        plan.backbone.display(),
        plan.backbone_digest,
        backbone.digest()
    );
    Ok(())
}

/// Writes the plan. Jobs of a plan that was written before keep their indices, and new ones come after them.
pub(super) fn planned(args: &RunArgs, context: &Context<'_>) -> anyhow::Result<Planned> {
    let sizes = args.preset.sizes();
    let path = args.backbone.as_deref().context("no backbone")?;
    let size = args.size.unwrap_or(sizes.size);
    let backbone = resized(path, size)?;
    let mut plan = Plan {
        backbone: path.canonicalize()?,
        backbone_digest: backbone.digest().to_string(),
        tasks: absolute(&args.tasks)?,
        size,
        limits: ImageLimits {
            train: args.images.map_or(sizes.train, |images| images as usize),
            held_out: sizes.held_out,
        },
        epochs: args.epochs.map_or(sizes.epochs, |epochs| epochs as usize),
        batch: 16,
        jobs: Vec::new(),
    };
    let names = plan.names();
    if let Some(name) = names
        .iter()
        .enumerate()
        .find(|(index, name)| names[..*index].contains(name))
    {
        anyhow::bail!("two tasks are called `{}`\nhint: rename one of the folders", name.1);
    }
    let file = args.output.join(PLAN);
    let known = file.exists().then(|| read_plan(&args.output)).transpose()?;
    if let Some(known) = &known {
        let same = Plan {
            jobs: known.jobs.clone(),
            ..plan.clone()
        } == *known;
        anyhow::ensure!(
            same,
            "'{}' is the plan of another run: its backbone, tasks or sizes differ\nhint: use another output folder",
            file.display()
        );
        // Otherwise hours of tuning could end in settings that differ from those of finished jobs.
        let depends = |job: &Job| registry::find(&job.method).is_none_or(registry::Entry::depends_on_trials);
        anyhow::ensure!(
            args.tune.is_empty() || !known.jobs.iter().any(depends) || args.output.join(TUNING).exists(),
            "the jobs of '{}' have settings that were not tuned\nhint: use another output folder for `--tune`",
            file.display()
        );
    }
    let entries = args.entries();
    let tuning = tuned(args, &entries, &plan, &backbone, context)?;
    let mut seeds = args.seeds.clone();
    seeds.sort_unstable();
    seeds.dedup();
    for seed in seeds {
        for entry in &entries {
            plan.jobs.push(Job {
                method: entry.name.to_owned(),
                settings: settings(entry, tuning.as_ref())?,
                seed,
            });
        }
    }
    let folders: Vec<String> = plan.jobs.iter().map(Job::folder).collect();
    if let Some(mut known) = known {
        for job in &plan.jobs {
            match known.jobs.iter().find(|other| other.folder() == job.folder()) {
                Some(other) => anyhow::ensure!(
                    other == job,
                    "'{}' has {} with other settings: {:?}, not {:?}\nhint: use another output folder",
                    file.display(),
                    job.folder(),
                    other.settings,
                    job.settings
                ),
                None => known.jobs.push(job.clone()),
            }
        }
        plan = known;
    }
    write_atomically(&file, (serde_json::to_string_pretty(&plan)? + "\n").as_bytes())?;
    let index_of = |folder: &String| plan.jobs.iter().position(|job| job.folder() == *folder);
    Ok(Planned {
        wanted: folders.iter().filter_map(index_of).collect(),
        plan,
        backbone,
    })
}
