//! `clr import`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clr_onnx::{Architecture, Backbone, ImportOptions};
use serde::Serialize;

use super::{Context, parse_size};
use crate::{
    backbones::{Imported, import_to},
    fetch::read_labels,
    output::human_bytes,
};

/// Make a backbone of a checkpoint or an ONNX file
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr import resnet18.safetensors -o resnet18.onnx --labels imagenet.txt\n  clr import \
                        model.onnx -o backbone.onnx\n\nTakes ONNX (opset 11 to 21) and weights of the architectures listed: PyTorch checkpoints \
                        (both .pth formats;\nnothing in them is executed) and .safetensors, on the names of torchvision, \
                        timm and Transformers, wherever\nthe weights are in the file. Writes the backbone and, beside it, \
                        <stem>.original.clr: its own classifier as an adapter."
)]
pub(crate) struct ImportArgs {
    /// .onnx, .pth, .pt, .ckpt, .safetensors, or the .index.json of several such files
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Where the backbone goes
    #[arg(short, long, default_value = "backbone.onnx", value_name = "FILE")]
    output: PathBuf,
    /// Architecture of a checkpoint [default: guessed from its tensors]
    #[arg(long, value_parser = parse_architecture, value_name = "NAME")]
    architecture: Option<Architecture>,
    /// Weights to read where a checkpoint has several sets: model, ema, or their key [default: model]
    #[arg(long, value_name = "KEY")]
    weights: Option<String>,
    /// Text file with one label a line, for the file's own classifier
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Input size in pixels, such as 96 or 96x128 [default: the file's]
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    size: Option<[u32; 2]>,
    /// Name of the backbone [default: the file's, or the architecture's]
    #[arg(long)]
    name: Option<String>,
}

#[derive(Serialize)]
struct Document {
    backbone: PathBuf,
    original_adapter: Option<PathBuf>,
    name: String,
    digest: String,
    sites: usize,
    features: usize,
    classes: Option<usize>,
    input: [u32; 2],
    bytes: u64,
    notes: Vec<String>,
}

pub(crate) fn run(args: &ImportArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    if same_file(&args.source, &args.output) {
        anyhow::bail!(
            "'{}' is both source and output\nhint: give another file with --output",
            args.source.display()
        );
    }
    let options = ImportOptions {
        architecture: args.architecture,
        labels: args.labels.as_deref().map(read_labels).transpose()?,
        preprocessing: None,
        weights: args.weights.clone(),
        name: args.name.clone(),
    };
    let mut backbone = clr_onnx::import(&args.source, &options)?;
    if let Some([height, width]) = args.size {
        let mut preprocessing = backbone.preprocessing().clone();
        (preprocessing.height, preprocessing.width) = (height, width);
        backbone = backbone.with_preprocessing(preprocessing)?;
    }
    for note in backbone.notes() {
        tracing::info!("{note}");
    }
    let imported = import_to(&backbone, &args.output)?;
    let document = document(&backbone, imported)?;
    if context.output.json {
        context.output.document("import", &document)?;
        return Ok(0);
    }
    context.output.line(&format!(
        "{}\t{}, {} CLR sites, {} features, input {}×{}, {}",
        document.backbone.display(),
        document.name,
        document.sites,
        document.features,
        document.input[0],
        document.input[1],
        human_bytes(document.bytes)
    ))?;
    if let Some(adapter) = &document.original_adapter {
        let classes = document.classes.unwrap_or_default();
        context
            .output
            .line(&format!("{}\tits own classifier, {classes} classes", adapter.display()))?;
    }
    Ok(0)
}

fn document(backbone: &Backbone, imported: Imported) -> anyhow::Result<Document> {
    let bytes = std::fs::metadata(&imported.path).context("the backbone is gone")?.len();
    Ok(Document {
        name: backbone.name().to_owned(),
        digest: backbone.digest().to_string(),
        sites: backbone.sites().len(),
        features: backbone.feature_count(),
        classes: backbone.classifier().map(clr_adapters::Head::classes),
        input: [backbone.preprocessing().height, backbone.preprocessing().width],
        bytes,
        notes: backbone.notes().to_vec(),
        backbone: imported.path,
        original_adapter: imported.original_adapter,
    })
}

fn same_file(a: &std::path::Path, b: &std::path::Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn parse_architecture(text: &str) -> Result<Architecture, String> {
    Architecture::from_name(text).ok_or_else(|| {
        format!(
            "expected one of {}",
            Architecture::ALL.map(Architecture::name).join(", ")
        )
    })
}
