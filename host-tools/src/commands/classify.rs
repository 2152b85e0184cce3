//! `clr classify`.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use clr_engine::{Classification, Engine, EngineOptions, ResidentAdapter};
use clr_onnx::{ImageError, decode_image_for};
use clr_training::{Outcome, Scan, ScanReport, Unreadable, display_path};
use serde::Serialize;

use super::Context;
use crate::{
    backbones::{read_adapter, read_backbone},
    output::human_time,
    scan_log,
};

/// Classify images with one or several tasks
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr classify --backbone lite0.onnx --adapter birds.clr photo.jpg\n  clr classify \
                  --backbone lite0.onnx --adapter birds.clr --adapter flowers.clr photos/ --top-k 3 --json\n\nThe \
                  backbone is loaded once; each image is classified with each adapter. Adapters \
                   share the forward pass up to the first site in which they differ. Unreadable images are \
                  reported and skipped, and the exit code is 1. Images are recognised by content, not by name."
)]
pub(crate) struct ClassifyArgs {
    /// The frozen network (ONNX)
    #[arg(short, long, value_name = "FILE")]
    backbone: PathBuf,
    /// Adapter; may be repeated
    #[arg(short, long = "adapter", value_name = "FILE", required = true)]
    adapters: Vec<PathBuf>,
    /// Images, or folders of images
    #[arg(value_name = "IMAGE|FOLDER", required = true)]
    paths: Vec<PathBuf>,
    /// Number of classes to print
    #[arg(short = 'k', long, default_value_t = 1, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    top_k: u16,
    /// Threads per image; 0 is all cores
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
}

#[derive(Serialize)]
struct Document {
    results: Vec<ImageResult>,
    unreadable: Vec<Failure>,
    scan: ScanReport,
}

#[derive(Serialize)]
struct ImageResult {
    image: String,
    task: String,
    top: Vec<Class>,
    seconds: f64,
}

#[derive(Serialize)]
struct Class {
    index: usize,
    label: String,
    probability: f32,
}

#[derive(Serialize)]
struct Failure {
    image: String,
    reason: String,
}

pub(crate) fn run(args: &ClassifyArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let engine = Engine::new(
        read_backbone(&args.backbone)?,
        EngineOptions::default().with_threads(args.threads),
    )?;
    let mut residents = Vec::new();
    for path in &args.adapters {
        residents.push(engine.prepare(&read_adapter(path)?.adapter)?);
    }
    let scans = args
        .paths
        .iter()
        .map(|path| Scan::of(path))
        .collect::<Result<Vec<_>, _>>()?;
    let found = report(&scans, &[]);
    scan_log::log(&found);
    scan_log::ensure_images(&found, &args.paths)?;
    let images: Vec<PathBuf> = scans.iter().flat_map(Scan::images).collect();
    let mut failures = Vec::new();
    let mut document = Document {
        results: Vec::new(),
        unreadable: Vec::new(),
        scan: ScanReport::default(),
    };
    for image in images {
        let results = match classify(&engine, &residents, &image)? {
            Ok(results) => results,
            Err(error) => {
                tracing::error!("{error}");
                document.unreadable.push(Failure {
                    image: display_path(&image),
                    reason: error.to_string(),
                });
                failures.push(Unreadable::new(image, &error));
                continue;
            }
        };
        for (resident, (classification, seconds)) in residents.iter().zip(results) {
            let top = classification
                .top(usize::from(args.top_k))
                .into_iter()
                .map(|one| Class {
                    index: one.class,
                    label: one.label.to_owned(),
                    probability: one.probability,
                })
                .collect();
            let result = ImageResult {
                image: display_path(&image),
                task: resident.task().to_owned(),
                top,
                seconds,
            };
            if !context.output.json {
                print(&result, resident, context)?;
            }
            document.results.push(result);
        }
    }
    document.scan = report(&scans, &failures);
    let failed = document.scan.count(Outcome::LeftOut) > 0;
    if context.output.json {
        context.output.document("classify", &document)?;
    }
    Ok(u8::from(failed))
}

/// Classifies an image with all tasks. Returns each task's classification with the time of its pass in seconds, which it
/// shares with the tasks of the same preprocessing; the inner error is the image's.
fn classify(
    engine: &Engine,
    residents: &[ResidentAdapter],
    image: &Path,
) -> anyhow::Result<Result<Vec<(Classification, f64)>, ImageError>> {
    let mut results: Vec<Option<(Classification, f64)>> = residents.iter().map(|_| None).collect();
    for first in residents {
        let input = first.preprocessing();
        let same = |&at: &usize| results[at].is_none() && residents[at].preprocessing() == input;
        let members: Vec<usize> = (0..residents.len()).filter(same).collect();
        if members.is_empty() {
            continue;
        }
        // The image is decoded for this input size, as on the device.
        let decoded = match decode_image_for(image, &[input]) {
            Ok(decoded) => decoded,
            Err(error) => return Ok(Err(error)),
        };
        let group: Vec<&ResidentAdapter> = members.iter().map(|&at| &residents[at]).collect();
        let start = Instant::now();
        let classifications = engine.classify_all(&group, &decoded);
        let seconds = start.elapsed().as_secs_f64();
        for (at, classification) in members.into_iter().zip(classifications) {
            results[at] = Some((classification?, seconds));
        }
    }
    Ok(Ok(results.into_iter().flatten().collect()))
}

/// Returns a report on all folders and files, with their paths as given.
fn report(scans: &[Scan], failures: &[Unreadable]) -> ScanReport {
    let mut report = ScanReport::default();
    for scan in scans {
        let failures = failures.iter().filter(|file| file.path.starts_with(scan.root()));
        report.add(scan.report(failures), scan.root());
    }
    report
}

fn print(result: &ImageResult, resident: &ResidentAdapter, context: &Context<'_>) -> std::io::Result<()> {
    let named = |class: &Class| {
        let label = if class.label.is_empty() {
            format!("class {}", class.index)
        } else {
            class.label.clone()
        };
        format!("{label} {:.1} %", 100.0 * class.probability)
    };
    let classes: Vec<String> = result.top.iter().map(named).collect();
    tracing::debug!("{} classified in {}", resident.task(), human_time(result.seconds));
    context
        .output
        .line(&format!("{}\t{}\t{}", result.image, result.task, classes.join(", ")))
}
