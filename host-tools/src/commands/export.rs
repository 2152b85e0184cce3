//! `clr export`.

use std::path::PathBuf;

use clap::Args;

use super::{Context, merge, parse_size};

/// Write ONNX with the adapter as overridable inputs
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr export --backbone lite0.onnx --adapter birds.clr -o birds.onnx\n\nThe adapter's tensors are initialisers that are also inputs: ONNX Runtime and TensorRT run the model as it is, or with another task's tensors as inputs."
)]
pub(crate) struct ExportArgs {
    /// The frozen network (ONNX)
    #[arg(short, long, value_name = "FILE")]
    backbone: PathBuf,
    /// The adapter
    #[arg(short, long, value_name = "FILE")]
    adapter: PathBuf,
    /// Model to write [default: <task>.export.onnx]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Input size in pixels [default: the adapter's]
    #[arg(long, value_parser = parse_size, value_name = "N|HEIGHTxWIDTH")]
    size: Option<[u32; 2]>,
}

pub(crate) fn run(args: &ExportArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let what = merge::Form::Overridable;
    merge::write(
        &args.backbone,
        &args.adapter,
        args.output.as_deref(),
        args.size,
        what,
        context,
    )
}
