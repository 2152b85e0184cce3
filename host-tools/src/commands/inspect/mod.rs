//! `clr inspect`.

mod adapter;
mod backbone;

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;
use clr_adapters::Preprocessing;
use clr_onnx::Backbone;

use super::{Context, preprocessing::describe};
use crate::{backbones::read_adapter, output::Output};

/// The first bytes of every adapter file (docs/reference/adapter-format.md).
const ADAPTER: &[u8] = b"\x89CLR\r\n\x1a\n";

/// Show the content of an adapter or a backbone
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  clr inspect birds.clr\n  clr inspect lite0.onnx --json")]
pub(crate) struct InspectArgs {
    /// An adapter or an ONNX file
    #[arg(value_name = "ADAPTER|BACKBONE")]
    path: PathBuf,
    /// List every site
    #[arg(long)]
    sites: bool,
}

pub(crate) fn run(args: &InspectArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let named_adapter = args.path.extension().is_some_and(|extension| extension == "clr");
    if named_adapter || is_adapter(&args.path) {
        let adapter = read_adapter(&args.path)?;
        adapter::show(&args.path, &adapter, args.sites, context.output)?;
    } else {
        // Loaded by path, because weights may be in other files of the same folder.
        let loaded = Backbone::load(&args.path)?;
        backbone::show(&args.path, &loaded, args.sites, context.output)?;
    }
    Ok(0)
}

/// Returns whether the file starts with an adapter's magic.
fn is_adapter(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(ADAPTER.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == ADAPTER
}

fn preprocessing_line(preprocessing: &Preprocessing, output: &Output) -> std::io::Result<()> {
    output.line(&format!(
        "input        {} × {} pixels (height × width)",
        preprocessing.height, preprocessing.width
    ))?;
    output.line(&format!("preprocess   {}", describe(preprocessing)))
}
