//! `clr device examples`: the labelled images in a device's store.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use clr_transfer::{Digest, EndpointClient, ExampleSelection, ExampleSummary, ExampleTask};
use serde::Serialize;

use super::Context;
use crate::{
    destination::{try_output, write_atomically},
    output::{Table, human_bytes},
};

/// Maximum size of a stored image in bytes.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  clr device examples                      the tasks with stored images\n  clr device examples digits               the images of a task\n  clr device examples show digits 3f2a -o image.jpg\n  clr device examples remove digits --label cell"
)]
pub(super) struct ExamplesArgs {
    #[command(subcommand)]
    action: Option<ExamplesAction>,
    /// The task [default: list the tasks with stored images]
    #[arg(value_name = "TASK")]
    task: Option<String>,
    /// Only images of this label
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ExamplesAction {
    /// Write a stored image to a file
    Show(ShowArgs),
    /// Remove stored images
    Remove(RemoveArgs),
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// The task
    #[arg(value_name = "TASK")]
    task: String,
    /// The image, by the first digits of its digest
    #[arg(value_name = "ID")]
    id: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args, Debug)]
struct RemoveArgs {
    /// The task
    #[arg(value_name = "TASK")]
    task: String,
    /// Images, by the first digits of their digests
    #[arg(value_name = "ID", required_unless_present_any = ["label", "frames"])]
    ids: Vec<String>,
    /// All images of a label
    #[arg(long, value_name = "LABEL", conflicts_with = "ids")]
    label: Option<String>,
    /// All unlabelled images that the device stored
    #[arg(long, conflicts_with_all = ["ids", "label"])]
    frames: bool,
}

#[derive(Serialize)]
struct TasksDocument {
    tasks: Vec<ExampleTask>,
}

#[derive(Serialize)]
struct ExamplesDocument<'a> {
    task: &'a str,
    examples: Vec<ExampleSummary>,
}

#[derive(Serialize)]
struct ShowDocument<'a> {
    task: &'a str,
    #[serde(serialize_with = "text")]
    id: Digest,
    bytes: usize,
    file: &'a PathBuf,
}

#[derive(Serialize)]
struct RemovedDocument<'a> {
    task: &'a str,
    removed: u32,
    /// Classes that the adapter still has, although they have no images left.
    without_images: &'a [String],
}

fn text<S: serde::Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

pub(super) fn run(args: &ExamplesArgs, client: &mut EndpointClient<'_>, context: &Context<'_>) -> anyhow::Result<u8> {
    match (&args.action, &args.task) {
        (Some(ExamplesAction::Show(show)), _) => self::show(show, client, context),
        (Some(ExamplesAction::Remove(remove)), _) => self::remove(remove, client, context),
        (None, Some(task)) => list(task, args.label.as_deref(), client, context),
        (None, None) => tasks(client, context),
    }
}

fn tasks(client: &mut EndpointClient<'_>, context: &Context<'_>) -> anyhow::Result<u8> {
    let tasks = client.example_tasks()?;
    if context.output.json {
        context.output.document("device", &TasksDocument { tasks })?;
        return Ok(0);
    }
    let mut table = Table::new(["task", "images", "classes", "frames", "bytes", "serves"]);
    for task in &tasks {
        table.row([
            task.task.clone(),
            task.images.to_string(),
            task.classes.to_string(),
            task.frames.to_string(),
            human_bytes(task.bytes),
            if task.serves { "yes" } else { "no" }.to_owned(),
        ]);
    }
    context.output.table(&table)?;
    Ok(0)
}

fn list(task: &str, label: Option<&str>, client: &mut EndpointClient<'_>, context: &Context<'_>) -> anyhow::Result<u8> {
    let mut examples = client.examples(task)?;
    if let Some(label) = label {
        examples.retain(|example| example.label.as_deref() == Some(label));
    }
    examples.sort_by(|a, b| (&a.label, a.added, a.id).cmp(&(&b.label, b.added, b.id)));
    if context.output.json {
        context
            .output
            .document("device", &ExamplesDocument { task, examples })?;
        return Ok(0);
    }
    let mut totals: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut table = Table::new(["id", "label", "bytes", "added (UTC)"]);
    for example in &examples {
        let label = example.label.as_deref().unwrap_or("(frame)");
        let total = totals.entry(label).or_default();
        *total = (total.0 + 1, total.1 + example.bytes);
        table.row([
            example.id.short(),
            label.to_owned(),
            example.bytes.to_string(),
            example.added.map(date).unwrap_or_default(),
        ]);
    }
    for (label, (count, bytes)) in &totals {
        context
            .output
            .line(&format!("{task}: {count} of {label}, {}", human_bytes(*bytes)))?;
    }
    if examples.is_empty() {
        context.output.line(&format!("{task}: no image is stored"))?;
    } else {
        context.output.table(&table)?;
    }
    Ok(0)
}

fn show(args: &ShowArgs, client: &mut EndpointClient<'_>, context: &Context<'_>) -> anyhow::Result<u8> {
    try_output(&args.output, 0)?;
    let examples = client.examples(&args.task)?;
    let id = find(&args.task, &args.id, &examples)?;
    let pulled = client.pull_example(&args.task, id, MAX_BYTES, &mut |_| ())?;
    write_atomically(&args.output, &pulled.bytes)
        .with_context(|| format!("cannot write '{}'", args.output.display()))?;
    if context.output.json {
        context.output.document(
            "device",
            &ShowDocument {
                task: &args.task,
                id,
                bytes: pulled.bytes.len(),
                file: &args.output,
            },
        )?;
    } else {
        context.output.line(&format!(
            "{}: {} written to {}",
            args.task,
            id.short(),
            args.output.display()
        ))?;
    }
    Ok(0)
}

fn remove(args: &RemoveArgs, client: &mut EndpointClient<'_>, context: &Context<'_>) -> anyhow::Result<u8> {
    let task = args.task.as_str();
    let mut selections = Vec::new();
    if let Some(label) = &args.label {
        selections.push(ExampleSelection::Label(label.clone()));
    } else if args.frames {
        selections.push(ExampleSelection::Frames);
    } else {
        // Find all before removing any.
        let examples = client.examples(task)?;
        for id in &args.ids {
            selections.push(ExampleSelection::Image(find(task, id, &examples)?));
        }
    }
    let (mut removed, mut without_images) = (0, Vec::new());
    for selection in selections {
        let result = client.remove_examples(task, selection)?;
        removed += result.images;
        without_images.extend(result.without_images);
    }
    if context.output.json {
        let without_images = &without_images;
        context.output.document(
            "device",
            &RemovedDocument {
                task,
                removed,
                without_images,
            },
        )?;
    } else {
        context.output.line(&format!("{task}: {removed} images removed"))?;
    }
    for label in &without_images {
        tracing::warn!(
            "class `{label}` stays in the adapter, although none of its images is left\nhint: `clr device \
             remove-class {task} '{label}'` removes the class"
        );
    }
    Ok(0)
}

/// Returns the digest that starts with these digits.
fn find(task: &str, start: &str, examples: &[ExampleSummary]) -> anyhow::Result<Digest> {
    let start = start.to_lowercase();
    let mut found = examples
        .iter()
        .filter(|example| example.id.to_string().starts_with(&start));
    match (found.next(), found.next()) {
        (Some(example), None) => Ok(example.id),
        (Some(_), Some(_)) => bail!(
            "the digests of several images of task `{task}` begin with {start}\nhint: give \
                                     more digits"
        ),
        (None, _) => {
            bail!(
                "no digest of an image of task `{task}` begins with {start}\nhint: `clr device examples {task}` \
                   lists them"
            )
        }
    }
}

/// Returns a time, given in seconds since 1970-01-01, as date and time.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", rest / 3600, rest / 60 % 60)
}

/// Returns year, month and day of a day, counted from 1970-01-01 (Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_400), "2000-02-29 00:00");
        assert_eq!(date(1_795_953_599), "2026-11-29 11:59");
    }

    #[test]
    fn an_image_is_found_by_the_first_digits_of_its_digest() {
        let example = |byte: u8| ExampleSummary {
            id: Digest([byte; 32]),
            label: None,
            bytes: 1,
            added: None,
        };
        let examples = [example(0xab), example(0xac)];
        assert_eq!(find("t", "AC", &examples).unwrap(), examples[1].id);
        assert!(find("t", "a", &examples).unwrap_err().to_string().contains("several"));
        assert!(
            find("t", "ff", &examples)
                .unwrap_err()
                .to_string()
                .contains("no digest")
        );
    }
}
