//! What may be wrong with a folder of pictures before anything is learned from it.

mod checks;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clr_adapters::Digest;
use rayon::prelude::*;
use serde::Serialize;

use crate::fingerprint::Fingerprint;

/// File name extensions that are taken for pictures, as in training.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "webp", "gif"];
/// Above this number of pictures near-duplicates are not looked for: the search is quadratic.
const NEAR_LIMIT: usize = 40_000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// Training on this gives wrong or misleading results.
    Error,
    /// It works, but better know it.
    Warning,
}

/// One thing found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    /// From the data set's root.
    pub(crate) files: Vec<PathBuf>,
}

/// The whole examination.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) data: PathBuf,
    /// Split (`all` where there are no split folders) → class → readable pictures.
    pub(crate) splits: BTreeMap<String, BTreeMap<String, usize>>,
    pub(crate) findings: Vec<Finding>,
    /// Files that are no pictures by their extension.
    pub(crate) ignored: usize,
    /// Whether near-duplicates were looked for.
    pub(crate) near_duplicates_checked: bool,
}

impl Report {
    pub(crate) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// One file, where it stands.
struct Entry {
    path: PathBuf,
    split: String,
    class: String,
}

/// One picture, looked at.
struct Looked {
    size: (u32, u32),
    pixels: Digest,
    print: Fingerprint,
}

/// Examines `root`: class folders, or `train/`, `val/` and `test/` with class folders. `step` is called per picture.
pub(crate) fn examine(root: &Path, begin: &dyn Fn(usize), step: &(dyn Fn() + Sync)) -> std::io::Result<Report> {
    let mut report = Report {
        data: root.to_owned(),
        splits: BTreeMap::new(),
        findings: Vec::new(),
        ignored: 0,
        near_duplicates_checked: false,
    };
    let entries = list(root, &mut report)?;
    begin(entries.len());
    let looked: Vec<Result<Looked, String>> = entries
        .par_iter()
        .map(|entry| {
            let looked = look(&root.join(&entry.path));
            step();
            looked
        })
        .collect();
    let mut good = Vec::new();
    for (entry, looked) in entries.into_iter().zip(looked) {
        match looked {
            Ok(looked) => {
                let classes = report.splits.entry(entry.split.clone()).or_default();
                *classes.entry(entry.class.clone()).or_default() += 1;
                good.push((entry, looked));
            }
            Err(reason) => report.findings.push(Finding {
                level: Level::Error,
                kind: "unreadable",
                message: format!("'{}' cannot be read: {reason}", entry.path.display()),
                files: vec![entry.path],
            }),
        }
    }
    checks::classes(&mut report);
    checks::duplicates(&good, &mut report);
    if good.len() <= NEAR_LIMIT {
        report.near_duplicates_checked = true;
        checks::near_duplicates(&good, &mut report);
    }
    checks::small(&good, &mut report);
    report.findings.sort_by_key(|finding| (finding.level, finding.kind));
    Ok(report)
}

fn look(path: &Path) -> Result<Looked, String> {
    let picture = clr_onnx::decode_image(path).map_err(|error| {
        let text = error.to_string();
        text.split("\nhint:").next().unwrap_or_default().to_owned()
    })?;
    let size = picture.dimensions();
    let mut content = Vec::with_capacity(picture.as_raw().len() + 8);
    content.extend_from_slice(&size.0.to_le_bytes());
    content.extend_from_slice(&size.1.to_le_bytes());
    content.extend_from_slice(picture.as_raw());
    let grey = image::imageops::grayscale(&picture);
    Ok(Looked {
        size,
        pixels: Digest::of(&content),
        print: Fingerprint::of(&grey),
    })
}

/// The pictures by split and class, sorted; empty class folders are findings.
fn list(root: &Path, report: &mut Report) -> std::io::Result<Vec<Entry>> {
    let top = folders(root)?;
    let splits: Vec<&str> = ["train", "val", "valid", "validation", "test"]
        .into_iter()
        .filter(|split| top.iter().any(|folder| folder == split))
        .collect();
    let layout: Vec<(&str, PathBuf)> = if splits.contains(&"train") {
        splits.into_iter().map(|split| (split, root.join(split))).collect()
    } else {
        vec![("all", root.to_owned())]
    };
    let mut entries = Vec::new();
    for (split, folder) in layout {
        report.splits.insert(split.to_owned(), BTreeMap::new());
        for class in folders(&folder)? {
            let before = entries.len();
            for file in walkdir::WalkDir::new(folder.join(&class))
                .sort_by_file_name()
                .into_iter()
                .flatten()
            {
                if !file.file_type().is_file() || file.file_name().to_string_lossy().starts_with('.') {
                    continue;
                }
                let extension = file.path().extension().map(|end| end.to_string_lossy().to_lowercase());
                if extension.is_some_and(|end| EXTENSIONS.contains(&end.as_str())) {
                    let path = file.path().strip_prefix(root).unwrap_or(file.path()).to_owned();
                    entries.push(Entry {
                        path,
                        split: split.to_owned(),
                        class: class.clone(),
                    });
                } else {
                    report.ignored += 1;
                }
            }
            if entries.len() == before {
                report.findings.push(Finding {
                    level: Level::Error,
                    kind: "empty-class",
                    message: format!("class folder '{class}' in '{split}' holds no pictures"),
                    files: vec![folder.strip_prefix(root).unwrap_or(&folder).join(&class)],
                });
            }
        }
    }
    Ok(entries)
}

fn folders(path: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn picture(path: &Path, seed: u32, side: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let wave = |x: u32, y: u32| {
            let (u, v) = (x as f32 / side as f32, y as f32 / side as f32);
            let phase = seed as f32;
            (127.0 + 60.0 * ((2.0 + phase) * u * 6.3 + phase).sin() + 60.0 * ((1.0 + 1.7 * phase) * v * 6.3).cos())
                as u8
        };
        RgbImage::from_fn(side, side, |x, y| Rgb([wave(x, y), wave(y, x), 90]))
            .save(path)
            .unwrap();
    }

    fn healthy(root: &Path) {
        for (split, count) in [("train", 10), ("test", 2)] {
            for class in 0..2 {
                for index in 0..count {
                    let seed = class * 40 + index + if split == "test" { 20 } else { 0 };
                    picture(&root.join(format!("{split}/c{class}/{index}.png")), seed, 40);
                }
            }
        }
    }

    fn kinds(root: &Path) -> Vec<&'static str> {
        let report = examine(root, &|_| (), &|| ()).unwrap();
        report.findings.iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn a_healthy_folder_has_no_errors() {
        let root = tempfile::tempdir().unwrap();
        healthy(root.path());
        let report = examine(root.path(), &|_| (), &|| ()).unwrap();
        assert_eq!(report.count(Level::Error), 0, "{:?}", report.findings);
        assert_eq!(report.splits["train"]["c0"], 10);
    }

    #[test]
    fn each_defect_is_found_as_itself() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        healthy(root);
        fs::write(root.join("train/c0/broken.png"), b"no picture").unwrap();
        fs::copy(root.join("train/c0/0.png"), root.join("test/c0/copy.png")).unwrap();
        fs::copy(root.join("train/c0/1.png"), root.join("train/c1/other.png")).unwrap();
        fs::copy(root.join("train/c1/2.png"), root.join("train/c1/again.png")).unwrap();
        picture(&root.join("test/c0/larger.png"), 0, 80);
        picture(&root.join("test/extra/a.png"), 99, 20);
        fs::create_dir_all(root.join("train/empty")).unwrap();
        let kinds = kinds(root);
        for kind in [
            "unreadable",
            "duplicate-across-splits",
            "contradictory-labels",
            "duplicate",
            "near-duplicate-across-splits",
            "unknown-class",
            "small-pictures",
            "empty-class",
        ] {
            assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
        }
    }

    #[test]
    fn one_class_and_imbalance_are_found() {
        let root = tempfile::tempdir().unwrap();
        for index in 0..12 {
            picture(&root.path().join(format!("a/{index}.png")), index, 40);
        }
        assert!(kinds(root.path()).contains(&"too-few-classes"));
        picture(&root.path().join("b/0.png"), 50, 40);
        let kinds = kinds(root.path());
        assert!(
            kinds.contains(&"imbalance") && kinds.contains(&"small-class"),
            "{kinds:?}"
        );
    }
}
