//! `clr merge`, and code that it shares with `clr export`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Context, parse_size};
use crate::{
    backbones::{read_adapter, read_backbone},
    destination::{try_output, write_atomically},
    output::human_bytes,
};

/// Merge one adapter into a plain ONNX model
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr merge --backbone lite0.onnx --adapter birds.clr -o birds.onnx\n\nScales are folded into the convolutions, kernels become constant depthwise convolutions, the head a Gemm: a plain model for any ONNX runtime."
)]
pub(crate) struct MergeArgs {
    /// The frozen network (ONNX)
    #[arg(short, long, value_name = "FILE")]
    backbone: PathBuf,
    /// The adapter
    #[arg(short, long, value_name = "FILE")]
    adapter: PathBuf,
    /// Model to write [default: <task>.merged.onnx]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Input size in pixels [default: the adapter's]
    #[arg(long, value_parser = parse_size, value_name = "N|HEIGHTxWIDTH")]
    size: Option<[u32; 2]>,
}

/// Representation of the adapter in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Weights are initialisers that are also graph inputs.
    Overridable,
    /// Weights are constants.
    Merged,
}

#[derive(Serialize)]
struct Document<'a> {
    model: PathBuf,
    task: &'a str,
    input: [usize; 2],
    classes: usize,
    bytes: usize,
}

pub(crate) fn run(args: &MergeArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    write(
        &args.backbone,
        &args.adapter,
        args.output.as_deref(),
        args.size,
        Form::Merged,
        context,
    )
}

pub(super) fn write(
    backbone: &Path,
    adapter: &Path,
    output: Option<&Path>,
    size: Option<[u32; 2]>,
    form: Form,
    context: &Context<'_>,
) -> anyhow::Result<u8> {
    if let Some(output) = output {
        try_output(output, 0)?;
    }
    let backbone = read_backbone(backbone)?;
    let adapter = read_adapter(adapter)?.adapter;
    let header = &adapter.header;
    let [height, width] = size.unwrap_or([header.preprocessing.height, header.preprocessing.width]);
    let input = [height as usize, width as usize];
    let (model, command, default) = match form {
        Form::Overridable => (clr_onnx::export(&backbone, &adapter, input)?, "export", "export.onnx"),
        Form::Merged => (clr_onnx::merge(&backbone, &adapter, input)?, "merge", "merged.onnx"),
    };
    let bytes = model.to_bytes();
    let path = output.map_or_else(|| PathBuf::from(format!("{}.{default}", header.task)), Path::to_owned);
    write_atomically(&path, &bytes)?;
    let classes = adapter.head.classes();
    if context.output.json {
        let document = Document {
            model: path,
            task: &header.task,
            input,
            classes,
            bytes: bytes.len(),
        };
        context.output.document(command, &document)?;
    } else {
        context.output.line(&format!(
            "{}\t{}, {classes} classes, input {height}×{width} (height × width), {}",
            path.display(),
            header.task,
            human_bytes(bytes.len() as u64)
        ))?;
    }
    Ok(0)
}
