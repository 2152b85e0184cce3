//! `clr classify`.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use clr_adapters::Preprocessing;
use clr_engine::{Engine, EngineOptions, ResidentAdapter};
use clr_onnx::{ReducedImage, decode_image_for};
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
                  backbone is loaded once; each image is classified with each adapter. Unreadable images are \
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
        // The image is decoded for each task, as on the device. Most tasks have the same input size.
        let mut decoded: Option<(&Preprocessing, ReducedImage)> = None;
        for resident in &residents {
            let input = resident.preprocessing();
            if decoded.as_ref().is_none_or(|(of, _)| *of != input) {
                match decode_image_for(&image, &[input]) {
                    Ok(image) => decoded = Some((input, image)),
                    Err(error) => {
                        tracing::error!("{error}");
                        document.unreadable.push(Failure {
                            image: display_path(&image),
                            reason: error.to_string(),
                        });
                        failures.push(Unreadable::new(image.clone(), &error));
                        break;
                    }
                }
            }
            let Some((_, decoded)) = &decoded else { break };
            let start = Instant::now();
            let classification = engine.classify(resident, decoded)?;
            let seconds = start.elapsed().as_secs_f64();
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
