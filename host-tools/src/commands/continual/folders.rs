//! Folders of tasks.

use std::path::PathBuf;

use anyhow::Context as _;

/// Returns the folders with absolute paths.
pub(super) fn absolute(folders: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let absolute = |folder: &PathBuf| {
        folder.canonicalize().with_context(|| {
            format!(
                "'{}' cannot be read\nhint: `clr fetch signs --to .` writes the task `signs` to the folder signs/",
                folder.display()
            )
        })
    };
    folders.iter().map(absolute).collect()
}
