//! Tree of the folders of a scan, with the number of files in each folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::super::{Outcome, Scan};

/// A folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    /// Path relative to the data set's folder.
    pub(super) path: PathBuf,
    /// Number of images directly in the folder, including those left out.
    pub(super) own: usize,
    /// Number of images in the folder and below.
    pub(super) images: usize,
    /// Number of files of every kind, in the folder and below.
    pub(super) files: usize,
    children: Vec<PathBuf>,
}

impl Folder {
    /// Returns whether there are images in the folder or below.
    pub(super) fn bears(&self) -> bool {
        self.images > 0
    }

    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// All folders that are not ignored, by path.
#[derive(Debug)]
pub(super) struct Tree(BTreeMap<PathBuf, Folder>);

impl Tree {
    pub(super) fn of(scan: &Scan) -> Self {
        let mut folders: BTreeMap<PathBuf, Folder> = BTreeMap::new();
        for path in scan.folders().iter().map(PathBuf::as_path).chain([Path::new("")]) {
            path.clone_into(&mut folders.entry(path.to_owned()).or_default().path);
            if let Some(parent) = path.parent() {
                folders
                    .entry(parent.to_owned())
                    .or_default()
                    .children
                    .push(path.to_owned());
            }
        }
        for (path, verdict) in scan.files() {
            let image = verdict.outcome != Outcome::PassedOver;
            for (depth, folder) in path.ancestors().skip(1).enumerate() {
                if let Some(folder) = folders.get_mut(folder) {
                    folder.files += 1;
                    folder.images += usize::from(image);
                    folder.own += usize::from(image && depth == 0);
                }
            }
        }
        Self(folders)
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Folder> {
        self.0.get(path)
    }

    /// Returns the subfolders, sorted by name.
    pub(super) fn children(&self, path: &Path) -> impl Iterator<Item = &Folder> {
        let children = self
            .0
            .get(path)
            .map(|folder| folder.children.as_slice())
            .unwrap_or_default();
        children.iter().filter_map(|child| self.0.get(child))
    }

    /// Returns the subfolders that have images directly or below, sorted by name.
    pub(super) fn bearing(&self, path: &Path) -> Vec<&Folder> {
        self.children(path).filter(|child| child.bears()).collect()
    }
}
