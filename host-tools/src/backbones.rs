//! Backbones and adapters of the commands: reads them, and writes an imported backbone with its own classifier.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clr_adapters::{Decoded, Encoding};
use clr_onnx::Backbone;

use crate::destination::write_together;
/// Minimum number of features of a backbone without a classifier.
const MIN_FEATURES: usize = 8;

/// Files written by an import.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    pub(crate) path: PathBuf,
    /// Absent when the file has no classifier.
    pub(crate) original_adapter: Option<PathBuf>,
}

/// Writes `path` and, in the same folder, `<stem>.original.clr`. Writes neither if there is not enough space for both.
pub(crate) fn import_to(backbone: &Backbone, path: &Path) -> anyhow::Result<Imported> {
    let original = match backbone.original_adapter() {
        Some(adapter) => Some((original_path(path), clr_adapters::encode(&adapter, Encoding::F32)?)),
        None => None,
    };
    let bytes = backbone.to_bytes();
    let mut files: Vec<(&Path, &[u8])> = vec![(path, &bytes)];
    if let Some((original, bytes)) = &original {
        files.insert(0, (original, bytes));
    }
    write_together(&files)?;
    Ok(Imported {
        path: path.to_owned(),
        original_adapter: original.map(|(path, _)| path),
    })
}

/// Returns the path of the own classifier that belongs to the backbone at `path`.
pub(crate) fn original_path(path: &Path) -> PathBuf {
    path.with_extension("original.clr")
}

/// Reads and checks an adapter file.
pub(crate) fn read_adapter(path: &Path) -> anyhow::Result<Decoded> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
    clr_adapters::decode(&bytes).with_context(|| format!("'{}' is not a usable adapter", path.display()))
}

/// Reads a backbone. The error for a missing file has a hint on `clr fetch`.
pub(crate) fn read_backbone(path: &Path) -> anyhow::Result<Backbone> {
    if !path.exists() {
        anyhow::bail!(
            "no backbone at '{}'\nhint: `clr fetch lite0` downloads one, `clr import` creates one from a checkpoint",
            path.display()
        );
    }
    let backbone = Backbone::load(path).with_context(|| format!("cannot load backbone '{}'", path.display()))?;
    check_features(&backbone, path)?;
    Ok(backbone)
}

/// Rejects a network whose output is neither a classifier nor long enough for features, because its last layers were
/// not recognised.
pub(crate) fn check_features(backbone: &Backbone, path: &Path) -> anyhow::Result<()> {
    let features = backbone.feature_count();
    if backbone.classifier().is_some() || features >= MIN_FEATURES {
        return Ok(());
    }
    let hint = match backbone.further_inside() {
        Some(value) => format!(
            "use the input of its last layer as features: `clr import '{}' --output-name '{value}'`",
            path.display()
        ),
        None => "export the network without its last layers".to_owned(),
    };
    anyhow::bail!(
        "'{}' gives {features} feature(s), expected at least {MIN_FEATURES}: its output is the result of another \
         task, not features of the image\nhint: {hint}",
        path.display()
    )
}
