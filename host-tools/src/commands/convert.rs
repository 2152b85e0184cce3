//! `clr convert`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use clr_adapters::{Adapter, OwnScores, Recipe};
use clr_training::{ConversionLoss, Converted, Dataset, Split, convert};
use serde::Serialize;

use super::{Context, layout_args::LayoutArgs};
use crate::{
    backbones::{read_adapter, read_backbone},
    destination::{same_file, try_output},
    learn::{Parity, Watcher, publish_checked},
    output::{Output, human_bytes},
    scan_log,
};

/// Convert an adapter to the quantised form of its backbone
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr convert birds.clr photos/ --backbone lite0.onnx --to lite0.int8.onnx\n\nDATA are the images on which the adapter was trained. The sites are converted without training. Metrics, canaries and feature profile are measured again, on integers as a device computes them. The version becomes the parent's plus one; a signature does not carry over. An adapter that loses more than its standard error and half a point, or gives another class for more than 3 % of the validation images, is refused."
)]
pub(crate) struct ConvertArgs {
    /// The adapter
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,
    /// Its images in class folders
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// The float backbone of the adapter (ONNX)
    #[arg(short, long, value_name = "FILE")]
    backbone: PathBuf,
    /// The quantised backbone, made from the float one by `clr quantize`
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// File to write [default: ADAPTER with the extension int8.clr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the adapter even if it loses more
    #[arg(long)]
    force: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Fraction of the validation split, without a val/ folder; as in training
    #[arg(long, default_value_t = 0.2, value_name = "FRACTION")]
    validation: f32,
    /// Seed of the validation split
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    layout: LayoutArgs,
}

#[derive(Serialize)]
struct Document<'a> {
    adapter: &'a Path,
    task: &'a str,
    recipe: Recipe,
    version: u64,
    /// Digest of the parent's file.
    parent: String,
    /// Digest of the quantised backbone.
    backbone: String,
    bytes: usize,
    parent_bytes: usize,
    validation: ConversionLoss,
    test: Option<ConversionLoss>,
    parity: Parity,
}

pub(crate) fn run(args: &ConvertArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.adapter.with_extension("int8.clr"));
    if same_file(&args.adapter, &output) {
        bail!(
            "'{}' is both the adapter and the output\nhint: give another file with --output",
            output.display()
        );
    }
    let parent = read_adapter(&args.adapter)?;
    try_output(&output, parent.file_bytes as u64 * 2)?;
    let (float, quantised) = (read_backbone(&args.backbone)?, read_backbone(&args.to)?);
    let split = args.layout.split(args.validation, args.seed);
    let dataset = Dataset::open(&args.data, &split)?;
    scan_log::images(&dataset.report(&[Split::Train, Split::Validation, Split::Test], []));
    let converted = {
        let mut watcher = Watcher::new(context.output, &parent.adapter.header.task, None, false)?;
        convert(&float, &quantised, &parent, &dataset, args.threads, &mut watcher)
            .with_context(|| format!("cannot convert '{}'", args.adapter.display()))?
    };
    let lost = describe_loss(&converted.validation);
    if converted.validation.is_too_large() {
        if !args.force {
            bail!(
                "'{}' loses too much on '{}': {lost}\nhint: train the task on the quantised backbone: `clr train \
                 --backbone {} {}`; --force writes the adapter all the same",
                args.adapter.display(),
                args.to.display(),
                args.to.display(),
                args.data.display()
            );
        }
        tracing::warn!("written because of --force: {lost}");
    }
    let parity = publish_checked(&quantised, &converted.bytes, &converted.parity, &output)?;
    let header = &converted.adapter.header;
    let document = Document {
        adapter: &output,
        task: &header.task,
        recipe: header.recipe,
        version: header.version,
        parent: parent.digest.to_string(),
        backbone: header.backbone.to_string(),
        bytes: converted.bytes.len(),
        parent_bytes: parent.file_bytes,
        validation: converted.validation,
        test: converted.test,
        parity,
    };
    if context.output.json {
        context.output.document("convert", &document)?;
    } else {
        print(&document, &converted, context.output)?;
    }
    let on_background = |adapter: &Adapter| {
        let profile = adapter.header.profile.as_ref();
        profile.is_some_and(|profile| matches!(profile.own_scores, OwnScores::Ratios(_)))
    };
    if on_background(&parent.adapter) && !on_background(&converted.adapter) {
        tracing::warn!(
            "the quantised backbone has no background, so `auto` chooses this task by sketches of its features\nhint: `clr \
             background --backbone {} FOLDER...`, then convert again",
            args.to.display()
        );
    }
    if parent.signature.is_some() {
        tracing::info!(
            "the parent is signed, '{}' is not\nhint: `clr sign {}`",
            output.display(),
            output.display()
        );
    }
    Ok(0)
}

fn print(document: &Document<'_>, converted: &Converted, output: &Output) -> std::io::Result<()> {
    output.line(&format!(
        "{}\t{}, {} classes, version {}, {} (parent {})",
        document.adapter.display(),
        document.recipe,
        converted.adapter.header.labels.len(),
        document.version,
        human_bytes(document.bytes as u64),
        human_bytes(document.parent_bytes as u64)
    ))?;
    output.line(&format!("validation\t{}", describe_loss(&document.validation)))?;
    if let Some(test) = &document.test {
        output.line(&format!("test\t{}", describe_loss(test)))?;
    }
    Ok(())
}

/// Describes a loss in a line.
pub(super) fn describe_loss(loss: &ConversionLoss) -> String {
    format!(
        "accuracy {:.1} % before and {:.1} % after, the same class for {:.1} % of {} images",
        100.0 * loss.accuracy,
        100.0 * loss.converted_accuracy,
        100.0 * loss.same_class,
        loss.images
    )
}
