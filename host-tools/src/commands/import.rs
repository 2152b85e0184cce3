//! `clr import`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clr_fetch::read_labels;
use clr_onnx::{Architecture, Backbone, ImportOptions, ReadOptions};
use serde::Serialize;

use super::{
    Context, parse_size,
    preprocessing::{self, PreprocessingArgs, PreprocessingDocument},
};
use crate::{
    backbones::{Imported, check_features, import_to, original_path},
    check_images,
    destination::try_output,
    output::human_bytes,
};

/// Make a backbone from an ONNX file or from weights
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr import resnet18.safetensors -o resnet18.onnx --labels imagenet.txt\n  clr import \
                  model.onnx -o backbone.onnx --preset tf --check-images photos/\n  clr import model.onnx --size 224 \
                  --output-name logits\n\nReads ONNX files (opset 7 to 28). Also reads weights of the listed \
                  architectures from .safetensors and PyTorch checkpoints (both .pth formats; nothing in them is \
                  executed), with the names of torchvision, timm or Transformers, anywhere in the file. Writes the \
                  backbone, and its own classifier as the adapter <stem>.original.clr."
)]
pub(crate) struct ImportArgs {
    /// .onnx, .pth, .pt, .ckpt, .safetensors, or the .index.json of several
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Backbone to write
    #[arg(short, long, default_value = "backbone.onnx", value_name = "FILE")]
    output: PathBuf,
    /// Architecture of the weights [default: guessed from the tensors]
    #[arg(long, value_parser = parse_architecture, value_name = "NAME")]
    architecture: Option<Architecture>,
    /// Set of weights, if a file has several: model, ema or its key [default: model]
    #[arg(long, value_name = "KEY")]
    weights: Option<String>,
    /// Text file with one label per line, for the file's classifier
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Input size in pixels [default: the file's]
    #[arg(long, value_parser = parse_size, value_name = "N|HEIGHTxWIDTH")]
    size: Option<[u32; 2]>,
    /// Output of the ONNX graph to read [default: its classifier]
    #[arg(
        long,
        value_name = "NAME",
        long_help = "Output of the ONNX graph to read, by its name [default: the only one, or the only classifier]\n\nAny value \
                     between two nodes is accepted, such as the one before an unsupported end. If it is not the result of a \
                     classifier, it becomes the features."
    )]
    output_name: Option<String>,
    /// Name of the backbone [default: the file's, or the architecture's]
    #[arg(long)]
    name: Option<String>,
    /// Images to check the file's classifier on, plain or in class folders
    #[arg(long, value_name = "FOLDER")]
    check_images: Option<PathBuf>,
    #[command(flatten)]
    preprocessing: PreprocessingArgs,
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
    /// Height, width.
    input: [u32; 2],
    preprocessing: PreprocessingDocument,
    bytes: u64,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<check_images::Report>,
}

pub(crate) fn run(args: &ImportArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    if same_file(&args.source, &args.output) {
        anyhow::bail!(
            "'{}' is both source and output\nhint: give another file with --output",
            args.source.display()
        );
    }
    let onnx = ReadOptions::default()
        .with_size(args.size)
        .with_output(args.output_name.clone());
    let options = ImportOptions::default()
        .with_architecture(args.architecture)
        .with_labels(args.labels.as_deref().map(read_labels).transpose()?)
        .with_preprocessing(args.preprocessing.stated()?)
        .with_weights(args.weights.clone())
        .with_name(args.name.clone())
        .with_onnx(onnx);
    let bytes = std::fs::metadata(&args.source).map_or(0, |metadata| metadata.len());
    try_output(&args.output, bytes)?;
    try_output(&original_path(&args.output), 0)?;
    let mut backbone = clr_onnx::import(&args.source, &options)?;
    if let Some([height, width]) = args.size {
        let [file_height, file_width] = [backbone.preprocessing().height, backbone.preprocessing().width];
        if height != width && [height, width] == [file_width, file_height] {
            tracing::warn!(
                "--size {height}x{width} is height {height}, width {width}; the file has height {file_height}, width {file_width}: swapped?\n\
                 hint: --size is HEIGHTxWIDTH, --size {file_height}x{file_width} is that of the file"
            );
        }
        let mut preprocessing = backbone.preprocessing().clone();
        (preprocessing.height, preprocessing.width) = (height, width);
        backbone = backbone.with_preprocessing(preprocessing)?;
    }
    for note in backbone.notes() {
        tracing::info!("{note}");
    }
    check_features(&backbone, &args.source)?;
    preprocessing::log(&backbone);
    let check = match &args.check_images {
        Some(folder) => Some(check_images::check(&backbone, folder, context.output)?),
        None => None,
    };
    let imported = import_to(&backbone, &args.output)?;
    let document = document(&backbone, imported, check)?;
    if context.output.json {
        context.output.document("import", &document)?;
        return Ok(0);
    }
    context.output.line(&format!(
        "{}\t{}, {} CLR sites, {} features, input {}×{} (height × width), {}",
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
    if let Some(check) = &document.check {
        check.print(context.output)?;
    }
    Ok(0)
}

fn document(backbone: &Backbone, imported: Imported, check: Option<check_images::Report>) -> anyhow::Result<Document> {
    let bytes = std::fs::metadata(&imported.path)
        .context("cannot read the written backbone")?
        .len();
    Ok(Document {
        name: backbone.name().to_owned(),
        digest: backbone.digest().to_string(),
        sites: backbone.sites().len(),
        features: backbone.feature_count(),
        classes: backbone.classifier().map(clr_adapters::Head::classes),
        input: [backbone.preprocessing().height, backbone.preprocessing().width],
        preprocessing: PreprocessingDocument::new(backbone),
        bytes,
        check,
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
