//! `clr inspect`.

mod adapter;
mod backbone;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clr_adapters::Preprocessing;
use clr_onnx::Backbone;

use super::{Context, preprocessing::describe};
use crate::output::Output;

/// Show what is in an adapter or a backbone
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
    let bytes = std::fs::read(&args.path).with_context(|| format!("cannot read '{}'", args.path.display()))?;
    let is_adapter = args.path.extension().is_some_and(|extension| extension == "clr");
    match clr_adapters::decode(&bytes) {
        Ok(decoded) => adapter::show(&args.path, &decoded, args.sites, context.output)?,
        Err(error) if is_adapter => {
            return Err(anyhow::Error::new(error).context(format!("'{}' is not a usable adapter", args.path.display())));
        }
        Err(_) => {
            let loaded = Backbone::from_bytes(&bytes, &args.path.display().to_string())?;
            backbone::show(&args.path, &loaded, args.sites, context.output)?;
        }
    }
    Ok(0)
}

fn preprocessing_line(preprocessing: &Preprocessing, output: &Output) -> std::io::Result<()> {
    output.line(&format!(
        "input        {} × {} pixels (height × width)",
        preprocessing.height, preprocessing.width
    ))?;
    output.line(&format!("preprocess   {}", describe(preprocessing)))
}
