//! Finding class folders and the pictures in them.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Unreadable;
use crate::error::{Result, TrainError};

/// File name extensions (lower case) that are taken for pictures; others are ignored.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "webp", "gif"];

/// The pictures below one class folder, as paths from the data set's root, sorted.
pub(super) struct ClassFolder {
    pub(super) class: String,
    pub(super) pictures: Vec<PathBuf>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// Subfolders of `path` by name, hidden ones left out.
pub(super) fn folders(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in read_folder(path)? {
        let entry = entry.map_err(|source| read_error(path, source))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The class folders of `root/prefix`, with every file's head checked for a picture that can be opened.
pub(super) fn class_folders(root: &Path, prefix: &Path) -> Result<Vec<ClassFolder>> {
    (folders(&root.join(prefix))?.into_iter())
        .map(|class| {
            let mut files = Vec::new();
            collect(root, &prefix.join(&class), &mut files)?;
            files.sort_unstable();
            let checked: Vec<_> = files
                .into_par_iter()
                .map(|file| {
                    check(&root.join(&file))
                        .map(|()| file.clone())
                        .map_err(|reason| Unreadable { path: file, reason })
                })
                .collect();
            let (mut pictures, mut unreadable) = (Vec::new(), Vec::new());
            for file in checked {
                match file {
                    Ok(path) => pictures.push(path),
                    Err(file) => unreadable.push(file),
                }
            }
            Ok(ClassFolder {
                class,
                pictures,
                unreadable,
            })
        })
        .collect()
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let full = root.join(folder);
    for entry in read_folder(&full)? {
        let entry = entry.map_err(|source| read_error(&full, source))?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let (path, full) = (folder.join(&name), entry.path());
        if full.is_dir() {
            // A link to a folder could lead in a circle.
            if !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                collect(root, &path, files)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| EXTENSIONS.contains(&&*extension.to_string_lossy().to_lowercase()))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Opens the file and reads its size in pixels; the rest is decoded later.
fn check(path: &Path) -> Result<(), String> {
    let reader = image::ImageReader::open(path).and_then(image::ImageReader::with_guessed_format);
    let reader = reader.map_err(|error| error.to_string())?;
    match reader.into_dimensions() {
        Ok((0, _) | (_, 0)) => Err("it has no pixels".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn read_folder(path: &Path) -> Result<std::fs::ReadDir> {
    std::fs::read_dir(path).map_err(|source| read_error(path, source))
}

fn read_error(path: &Path, source: std::io::Error) -> TrainError {
    TrainError::Read {
        path: path.to_owned(),
        source,
    }
}
