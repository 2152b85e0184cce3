//! Writing an imported backbone with its own classifier beside it, and reading backbones and adapters for the commands.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clr_adapters::{Adapter, Decoded, Encoding};
use clr_onnx::Backbone;

/// The fewest features of a backbone without a classifier.
const MIN_FEATURES: usize = 8;

/// What an import left.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    pub(crate) path: PathBuf,
    /// Absent when the file has no classifier.
    pub(crate) original_adapter: Option<PathBuf>,
}

/// Writes `path` and `<stem>.original.clr` beside it, each whole or not at all.
pub(crate) fn import_to(backbone: &Backbone, path: &Path) -> anyhow::Result<Imported> {
    let original_adapter = match backbone.original_adapter() {
        Some(adapter) => {
            let beside = path.with_extension("original.clr");
            write_adapter(&adapter, Encoding::F32, &beside)?;
            Some(beside)
        }
        None => None,
    };
    backbone
        .save(path)
        .with_context(|| format!("cannot write '{}'", path.display()))?;
    Ok(Imported {
        path: path.to_owned(),
        original_adapter,
    })
}

/// Encodes and writes an adapter; returns the file's size.
pub(crate) fn write_adapter(adapter: &Adapter, encoding: Encoding, path: &Path) -> anyhow::Result<usize> {
    let bytes = clr_adapters::encode(adapter, encoding)?;
    write_atomically(path, &bytes)?;
    Ok(bytes.len())
}

/// Writes a file beside its place and renames it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    publish(path, bytes, |_| Ok(()))
}

/// As [`write_atomically`], but only once `check` of the written file holds; else nothing is left.
pub(crate) fn publish(
    path: &Path,
    bytes: &[u8],
    check: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    use std::io::Write as _;
    let context = || format!("cannot write '{}'", path.display());
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(context)?;
    let mut file = tempfile::Builder::new()
        .prefix(".clr-")
        .tempfile_in(folder)
        .with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.as_file().sync_all().with_context(context)?;
    check(file.path())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // A temporary file is private; a result is not.
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).with_context(context)?;
    }
    file.persist(path).map_err(|error| error.error).with_context(context)?;
    Ok(())
}

/// Reads and checks an adapter file.
pub(crate) fn read_adapter(path: &Path) -> anyhow::Result<Decoded> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
    clr_adapters::decode(&bytes).with_context(|| format!("'{}' is not a usable adapter", path.display()))
}

/// Reads a backbone; names what can be fetched when there is no such file.
pub(crate) fn read_backbone(path: &Path) -> anyhow::Result<Backbone> {
    if !path.exists() {
        anyhow::bail!(
            "no backbone at '{}'\nhint: `clr fetch lite0` gets one, `clr import` makes one from a checkpoint",
            path.display()
        );
    }
    let backbone = Backbone::load(path).with_context(|| format!("cannot load backbone '{}'", path.display()))?;
    check_features(&backbone, path)?;
    Ok(backbone)
}

/// Refuses a network whose output is no classifier and too short to be features: an end that was not recognised.
pub(crate) fn check_features(backbone: &Backbone, path: &Path) -> anyhow::Result<()> {
    let features = backbone.feature_count();
    if backbone.classifier().is_some() || features >= MIN_FEATURES {
        return Ok(());
    }
    let hint = match backbone.further_inside() {
        Some(value) => format!(
            "take what its last layer reads: `clr import '{}' --output-name '{value}'`",
            path.display()
        ),
        None => "export the network without its last layers".to_owned(),
    };
    anyhow::bail!(
        "'{}' would be a backbone of {features} feature(s), expected at least {MIN_FEATURES}: its output is a result of its \
         own task, not a description of the image\nhint: {hint}",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_fails_its_check_leaves_nothing_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.clr");
        write_atomically(&path, b"old").unwrap();
        let error = publish(&path, b"new", |written| {
            assert_eq!(std::fs::read(written).unwrap(), b"new");
            anyhow::bail!("no")
        });
        assert!(error.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
