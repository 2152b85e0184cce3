//! `clr background`.

use std::path::PathBuf;

use clap::Args;
use clr_onnx::Backbone;
use clr_training::{BackgroundOptions, fit_background};
use serde::Serialize;

use super::{Context, parse_size};
use crate::{
    backbones::read_backbone,
    destination::{try_output, write_atomically},
    learn::Watcher,
    output::human_bytes,
};

/// Minimum number of folders. With fewer kinds of images, tasks of other kinds are hardly told apart from them.
const LEAST_FOLDERS: usize = 3;

/// Fit a backbone's background: what images in general look like to it
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr background --backbone net.onnx photos/ drawings/ scans/ maps/\n\nThe background is written next to the backbone, as net.background, where every command and the device find it. Feature profiles of tasks that are trained from then on are relative to it: `auto` chooses among them, and distinguishes images of no task. Each folder is one kind of images. The more kinds there are, the better; the tasks' own kinds may be among them. Deliver the file together with the backbone."
)]
pub(crate) struct BackgroundArgs {
    /// The frozen network (ONNX)
    #[arg(short, long, value_name = "FILE")]
    backbone: PathBuf,
    /// Folders of images, one for each kind; class folders do not matter
    #[arg(value_name = "FOLDER", required = true)]
    folders: Vec<PathBuf>,
    /// Input size in pixels; may be repeated [default: the backbone's]
    #[arg(long, value_parser = parse_size, value_name = "N|HEIGHTxWIDTH")]
    size: Vec<[u32; 2]>,
    /// Maximum number of images of each folder, evenly spaced
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(20..))]
    images: u32,
    /// File to write [default: next to the backbone]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document {
    background: PathBuf,
    id: String,
    backbone: String,
    kinds: usize,
    coordinates: usize,
    block_statistics: usize,
    bytes: usize,
}

pub(crate) fn run(args: &BackgroundArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    anyhow::ensure!(
        args.folders.len() >= LEAST_FOLDERS,
        "{} folders, expected at least {LEAST_FOLDERS}\nhint: give a folder for each kind of images; `clr fetch \
         all-tasks` downloads thirteen kinds",
        args.folders.len()
    );
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| Backbone::background_path(&args.backbone));
    try_output(&path, 1 << 20)?;
    let backbone = read_backbone(&args.backbone)?;
    let own = backbone.preprocessing();
    let sizes = match &args.size[..] {
        [] => vec![[own.height, own.width]],
        sizes => sizes.to_vec(),
    };
    let options = BackgroundOptions::new(sizes).with_images(args.images as usize);
    let mut watcher = Watcher::new(context.output, "background", None, false)?;
    let background = fit_background(&backbone, &args.folders, &options, &mut watcher)?;
    drop(watcher);
    let bytes = background.encode();
    write_atomically(&path, &bytes)?;
    let document = Document {
        id: background.id().to_string(),
        backbone: background.backbone().to_string(),
        kinds: args.folders.len(),
        coordinates: background.dimensions(),
        block_statistics: background.statistics(),
        bytes: bytes.len(),
        background: path,
    };
    if context.output.json {
        context.output.document("background", &document)?;
    } else {
        context.output.line(&format!(
            "{}\t{}, {} kinds of images, {} coordinates, {}",
            document.background.display(),
            document.id,
            document.kinds,
            document.coordinates,
            human_bytes(bytes.len() as u64)
        ))?;
    }
    Ok(0)
}
