//! Copies of fetched backbones and tasks in a folder that the user specified.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clr_onnx::Backbone;

use crate::destination::write_atomically;

/// The file in a task's folder that describes the task.
const TASK_FILE: &str = "task.json";

/// Copies a backbone, its own classifier and its background into `folder`. Returns the path of the copy.
pub(crate) fn copy_backbone(path: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let original = crate::backbones::original_path(path);
    let mut copy = PathBuf::new();
    let background = Backbone::background_path(path);
    for file in [original.as_path(), &background, path]
        .into_iter()
        .filter(|file| file.exists())
    {
        let bytes = fs::read(file).with_context(|| format!("cannot read '{}'", file.display()))?;
        copy = folder.join(file.file_name().context("a backbone has a file name")?);
        write_atomically(&copy, &bytes)?;
    }
    Ok(copy)
}

/// Copies a task to `folder/name`. Returns that path. An existing copy of the same task is kept.
pub(crate) fn copy_task(path: &Path, folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let copy = folder.join(name);
    if copy.exists() {
        let same = fs::read(copy.join(TASK_FILE)).ok() == fs::read(path.join(TASK_FILE)).ok();
        if same && copy.join(TASK_FILE).exists() {
            return Ok(copy);
        }
        bail!(
            "'{}' exists and differs from '{name}'\nhint: remove it, or name another folder with --to",
            copy.display()
        );
    }
    let cannot = || format!("cannot write '{}'", copy.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    // Written atomically, because training on a partial copy would not fail.
    let part = tempfile::Builder::new()
        .prefix(".part-")
        .tempdir_in(folder)
        .with_context(cannot)?;
    let staged = part.path().join(name);
    copy_folder(path, &staged).with_context(cannot)?;
    fs::rename(&staged, &copy).with_context(cannot)?;
    Ok(copy)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(folder: &Path, seed: &str) -> PathBuf {
        let task = folder.join("cache");
        fs::create_dir_all(task.join("test/7")).unwrap();
        fs::write(task.join(TASK_FILE), seed).unwrap();
        fs::write(task.join("test/7/0.png"), "image").unwrap();
        task
    }

    #[test]
    fn a_copied_task_is_complete_and_copying_it_again_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let from = task(folder.path(), "seed 0");
        let copy = copy_task(&from, &folder.path().join("data"), "digits").unwrap();
        assert_eq!(fs::read(copy.join("test/7/0.png")).unwrap(), b"image");
        fs::write(copy.join("note.txt"), "mine").unwrap();
        assert_eq!(copy_task(&from, &folder.path().join("data"), "digits").unwrap(), copy);
        assert_eq!(fs::read(copy.join("note.txt")).unwrap(), b"mine");
        assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_of_something_else_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let from = task(folder.path(), "seed 0");
        let mine = folder.path().join("data/digits");
        fs::create_dir_all(&mine).unwrap();
        fs::write(mine.join("photo.jpg"), "mine").unwrap();
        let error = copy_task(&from, &folder.path().join("data"), "digits")
            .unwrap_err()
            .to_string();
        assert!(error.contains("hint: "), "{error}");
        assert_eq!(fs::read(mine.join("photo.jpg")).unwrap(), b"mine");
    }

    #[test]
    fn a_backbone_is_copied_with_its_own_classifier() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("net.onnx"), "network").unwrap();
        fs::write(folder.path().join("net.original.clr"), "classifier").unwrap();
        let here = folder.path().join("here");
        fs::create_dir(&here).unwrap();
        assert_eq!(
            copy_backbone(&folder.path().join("net.onnx"), &here).unwrap(),
            here.join("net.onnx")
        );
        assert_eq!(fs::read(here.join("net.original.clr")).unwrap(), b"classifier");
    }
}
