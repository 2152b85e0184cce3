//! Imports a checkpoint and saves it as ONNX: `import_checkpoint FROM TO.onnx [ARCHITECTURE]`.
//!
//! With `seeded:SEED:CLASSES` as FROM, saves a backbone of ARCHITECTURE with random weights instead.

use std::error::Error;
use std::path::Path;

use clr_onnx::{Architecture, ImportOptions, import, seeded_backbone};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (from, to, name) = match arguments.as_slice() {
        [from, to] => (from, to, None),
        [from, to, name] => (from, to, Some(name)),
        _ => return Err("usage: import_checkpoint FROM TO.onnx [ARCHITECTURE]".into()),
    };
    let architecture = match name {
        Some(name) => Some(Architecture::from_name(name).ok_or_else(|| format!("unknown architecture {name}"))?),
        None => None,
    };
    let backbone = match (
        from.strip_prefix("seeded:").and_then(|rest| rest.split_once(':')),
        architecture,
    ) {
        (Some((seed, classes)), Some(architecture)) => seeded_backbone(architecture, seed.parse()?, classes.parse()?),
        _ => import(
            Path::new(from),
            &ImportOptions::default().with_architecture(architecture),
        )?,
    };
    backbone.save(Path::new(to))?;
    println!(
        "{}: {} sites, {} features, digest {}",
        backbone.name(),
        backbone.sites().len(),
        backbone.feature_count(),
        backbone.digest().short()
    );
    Ok(())
}
