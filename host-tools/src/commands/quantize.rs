//! `clr quantize`.

use std::{cell::RefCell, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use clr_adapters::Preprocessing;
use clr_onnx::Backbone;
use clr_quantisation::{Images, Progress, QuantiseOptions, Quantised, Selection, Stage, quantise};
use clr_training::{ConversionLoss, Dataset, SplitOptions, conversion_loss};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{Context, convert::describe_loss, layout_args::LayoutArgs, parse_size};
use crate::{
    backbones::{read_adapter, read_backbone},
    destination::{same_file, try_output, write_atomically},
    learn::Watcher,
    output::{Output, human_bytes},
};

/// Number of images below which a result is called uncertain.
const FEW_IMAGES: usize = 50;

/// Convert a backbone to 8-bit integers, with images for calibration
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr quantize lite0.onnx --calibrate photos/ signs/\n  clr quantize net.onnx --calibrate photos/ -o net.int8.onnx --size 96 --size 224\n\nThe result is a standard ONNX file (QuantizeLinear, DequantizeLinear). Give images of the kinds that the device will see. Of a folder with splits, only training images are used; a fifth of all images is held out and measures the loss. Adapters belong to one backbone: `clr convert` makes those of the float backbone fit the new one."
)]
pub(crate) struct QuantizeArgs {
    /// The float backbone (ONNX)
    #[arg(value_name = "BACKBONE")]
    backbone: PathBuf,
    /// Folders of images, of which training images are used
    #[arg(long, value_name = "FOLDER", required = true, num_args = 1..)]
    calibrate: Vec<PathBuf>,
    /// File to write [default: BACKBONE with the extension int8.onnx]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Number of images for calibration; a quarter as many are held out
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(8..))]
    images: u32,
    /// Seed of the choice of the images
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Input size in pixels; may be repeated [default: the backbone's]
    #[arg(long, value_parser = parse_size, value_name = "N|HEIGHTxWIDTH")]
    size: Vec<[u32; 2]>,
    /// Adapter of the float backbone whose loss is measured; may be repeated
    #[arg(long, value_name = "FILE", requires = "data")]
    adapter: Vec<PathBuf>,
    /// Images of each --adapter in class folders, in the same order
    #[arg(long, value_name = "FOLDER", requires = "adapter")]
    data: Vec<PathBuf>,
    /// Maximum relative error of the features on held-out images
    #[arg(long, value_name = "FRACTION", default_value_t = QuantiseOptions::default().max_error, value_parser = parse_fraction)]
    max_error: f64,
    /// Write the backbone even if its error is larger
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    layout: LayoutArgs,
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    let fraction = text
        .parse::<f64>()
        .ok()
        .filter(|fraction| *fraction > 0.0 && *fraction <= 1.0);
    fraction.ok_or_else(|| "expected a fraction above 0, up to 1".to_owned())
}

#[derive(Serialize)]
struct Document {
    backbone: PathBuf,
    digest: String,
    /// Digest of the float backbone.
    float_digest: String,
    bytes: u64,
    /// Bytes of the float file.
    float_bytes: u64,
    images: usize,
    held_out_images: usize,
    unreadable: Vec<String>,
    convolutions: usize,
    int8_convolutions: usize,
    /// Convolutions that were returned to float, because int8 lost too much.
    float_convolutions: Vec<String>,
    /// Relative error of the features on the held-out images.
    feature_error: f64,
    max_error: f64,
    /// Relative error on the calibration images without and with bias correction.
    correction: CorrectionDocument,
    /// Fraction of the held-out images on which the original classifier has the same first class.
    agreement: Option<f64>,
    clipped: Vec<ClippedDocument>,
    /// Loss of each `--adapter` on its validation split.
    tasks: Vec<TaskDocument>,
}

#[derive(Serialize)]
struct TaskDocument {
    task: String,
    #[serde(flatten)]
    loss: ConversionLoss,
}

#[derive(Serialize)]
struct CorrectionDocument {
    before: f64,
    after: f64,
}

#[derive(Serialize)]
struct ClippedDocument {
    node: String,
    fraction: f64,
}

pub(crate) fn run(args: &QuantizeArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.backbone.with_extension("int8.onnx"));
    if same_file(&args.backbone, &output) {
        anyhow::bail!(
            "'{}' is both the float backbone and the output\nhint: give another file with --output",
            output.display()
        );
    }
    anyhow::ensure!(
        args.adapter.len() == args.data.len(),
        "got {} adapters and {} folders\nhint: give one --data for each --adapter, in the same order",
        args.adapter.len(),
        args.data.len()
    );
    let tasks = args.adapter.iter().zip(&args.data);
    let split = SplitOptions::default().with_layout(args.layout.options());
    let tasks = tasks.map(|(adapter, data)| Ok((read_adapter(adapter)?, Dataset::open(data, &split)?)));
    let tasks = tasks.collect::<anyhow::Result<Vec<_>>>()?;
    let backbone = read_backbone(&args.backbone)?;
    let float_bytes = std::fs::metadata(&args.backbone).map_or(0, |metadata| metadata.len());
    try_output(&output, float_bytes / 2)?;
    let at = |&[height, width]: &[u32; 2]| Preprocessing {
        height,
        width,
        ..backbone.preprocessing().clone()
    };
    let inputs: Vec<Preprocessing> = match &args.size[..] {
        [] => vec![backbone.preprocessing().clone()],
        sizes => sizes.iter().map(at).collect(),
    };
    let files = Selection::draw(&args.calibrate, args.images as usize, args.seed, &args.layout.options())?;
    let bars = Bars::new(context.output);
    let images = Images::read(&files, &inputs, &mut |progress| bars.show(progress))?;
    for file in &images.unreadable {
        bars.suspend(|| tracing::warn!("left out: {file}"));
    }
    let options = QuantiseOptions::default()
        .with_max_error(args.max_error)
        .with_force(args.force);
    let quantised = quantise(&backbone, &images, &options, &mut |progress| bars.show(progress))
        .with_context(|| format!("cannot quantise '{}'", args.backbone.display()));
    drop(bars);
    let quantised = quantised?;
    let bytes = quantised.backbone.to_bytes();
    write_atomically(&output, &bytes)?;
    let mut document = document(
        &quantised,
        &backbone,
        &images,
        output,
        [bytes.len() as u64, float_bytes],
        args.max_error,
    );
    for (adapter, dataset) in &tasks {
        let task = adapter.adapter.header.task.clone();
        let mut watcher = Watcher::new(context.output, &task, None, false)?;
        let loss = conversion_loss(&backbone, &quantised.backbone, adapter, dataset, None, &mut watcher)?;
        document.tasks.push(TaskDocument { task, loss });
    }
    if context.output.json {
        context.output.document("quantize", &document)?;
    } else {
        print(&document, context.output)?;
    }
    if document.images + document.held_out_images < FEW_IMAGES {
        tracing::warn!(
            "ranges and measurement are from {} images only: calibrate with {FEW_IMAGES} or more",
            document.images + document.held_out_images
        );
    }
    tracing::info!(
        "adapters of '{}' do not fit '{}', whose digest is another one\nhint: convert each with its images: `clr convert \
         ADAPTER DATA --backbone {} --to {}`",
        args.backbone.display(),
        document.backbone.display(),
        args.backbone.display(),
        document.backbone.display()
    );
    Ok(0)
}

fn document(
    quantised: &Quantised,
    float: &Backbone,
    images: &Images,
    path: PathBuf,
    [bytes, float_bytes]: [u64; 2],
    max_error: f64,
) -> Document {
    let [int8_convolutions, convolutions] = quantised.convolutions;
    let clipped = quantised.clipped.iter().map(|clipped| ClippedDocument {
        node: clipped.node.clone(),
        fraction: clipped.fraction,
    });
    Document {
        backbone: path,
        digest: quantised.backbone.digest().to_string(),
        float_digest: float.digest().to_string(),
        bytes,
        float_bytes,
        images: quantised.images[0],
        held_out_images: quantised.images[1],
        unreadable: images.unreadable.iter().map(ToString::to_string).collect(),
        convolutions,
        int8_convolutions,
        float_convolutions: quantised.float.clone(),
        feature_error: quantised.loss.error,
        max_error,
        correction: CorrectionDocument {
            before: quantised.correction.before,
            after: quantised.correction.after,
        },
        agreement: quantised.loss.agreement,
        clipped: clipped.collect(),
        tasks: Vec::new(),
    }
}

fn print(document: &Document, output: &Output) -> std::io::Result<()> {
    output.line(&format!(
        "{}\t{}, {} of {} convolutions in int8, {} (float {})",
        document.backbone.display(),
        document.digest,
        document.int8_convolutions,
        document.convolutions,
        human_bytes(document.bytes),
        human_bytes(document.float_bytes)
    ))?;
    if !document.float_convolutions.is_empty() {
        output.line(&format!("float\t{}", document.float_convolutions.join(", ")))?;
    }
    let agreement = document.agreement.map_or_else(String::new, |agreement| {
        format!(
            ", same first class of the original classifier on {:.1} %",
            100.0 * agreement
        )
    });
    output.line(&format!(
        "loss\trelative error of the features {:.3}{agreement}, {} held-out images (calibrated with {})",
        document.feature_error, document.held_out_images, document.images
    ))?;
    for task in &document.tasks {
        output.line(&format!("task {}\t{}", task.task, describe_loss(&task.loss)))?;
    }
    if document.feature_error > document.max_error {
        tracing::warn!(
            "relative error of the features {:.3}, expected at most {}: written because of --force",
            document.feature_error,
            document.max_error
        );
    }
    for clipped in &document.clipped {
        output.line(&format!(
            "clipped\t{:.1} % of the values after {}",
            100.0 * clipped.fraction,
            clipped.node
        ))?;
    }
    Ok(())
}

/// Progress bars, one after the other.
struct Bars<'a> {
    output: &'a Output,
    bar: RefCell<Option<(Stage, ProgressBar)>>,
}

impl<'a> Bars<'a> {
    fn new(output: &'a Output) -> Self {
        Self {
            output,
            bar: RefCell::default(),
        }
    }

    fn show(&self, progress: Progress) {
        let mut bar = self.bar.borrow_mut();
        if bar.as_ref().is_none_or(|(stage, _)| *stage != progress.stage) {
            if let Some((_, old)) = bar.take() {
                old.finish_and_clear();
            }
            let message = match progress.stage {
                Stage::Read => "reading images",
                Stage::Calibrate => "observing ranges",
                Stage::Correct => "correcting biases",
                Stage::Select => "comparing layers",
                _ => "measuring the loss",
            };
            *bar = Some((progress.stage, self.output.bar(progress.total as u64, message)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
    }

    fn suspend(&self, work: impl FnOnce()) {
        match &*self.bar.borrow() {
            Some((_, bar)) => bar.suspend(work),
            None => work(),
        }
    }
}

impl Drop for Bars<'_> {
    fn drop(&mut self) {
        if let Some((_, bar)) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
