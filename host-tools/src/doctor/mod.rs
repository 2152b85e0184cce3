//! Check of a folder of images before training.

mod classes;

use std::{collections::BTreeMap, path::Path};

use clr_training::{
    LayoutOptions, Outcome, ScanReport, Survey, TrainError, Unreadable, display_path,
    inspect::{Finding, ImageProperties, Severity, findings},
};
use rayon::prelude::*;
use serde::Serialize;

/// Maximum number of images in the search for similar ones, because its time is quadratic.
const NEAR_LIMIT: usize = 40_000;

/// Result of the check.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) data: String,
    /// Number of readable images, by split (`all` without split folders) and class.
    pub(crate) splits: BTreeMap<String, BTreeMap<String, usize>>,
    pub(crate) findings: Vec<Finding>,
    /// Number of files that were ignored because they are not images.
    pub(crate) ignored: usize,
    /// Whether the search for near-duplicates was done.
    pub(crate) near_duplicates_checked: bool,
    /// Report of all files.
    pub(crate) scan: ScanReport,
}

impl Report {
    pub(crate) fn count(&self, level: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// Examines `root`. `begin` is called with the number of images, and `step` for each image.
pub(crate) fn examine(
    root: &Path,
    options: &LayoutOptions,
    begin: &dyn Fn(usize),
    step: &(dyn Fn() + Sync),
) -> Result<Report, TrainError> {
    let survey = Survey::of(root, options)?;
    let entries: Vec<_> = (survey.parts.iter())
        .flat_map(|(part, classes)| classes.iter().map(move |(class, images)| (part, class, images)))
        .flat_map(|(part, class, images)| images.iter().map(move |image| (part, class, image)))
        .collect();
    begin(entries.len());
    let properties: Vec<Result<ImageProperties, Unreadable>> = entries
        .par_iter()
        .map(|(part, class, path)| {
            let properties = look(root, path, [part, class]);
            step();
            properties
        })
        .collect();
    let mut splits: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (part, classes) in &survey.parts {
        splits.insert(part.clone(), classes.keys().map(|class| (class.clone(), 0)).collect());
    }
    let (mut good, mut unreadable) = (Vec::new(), Vec::new());
    for properties in properties {
        match properties {
            Ok(properties) => {
                *splits
                    .entry(properties.split.clone())
                    .or_default()
                    .entry(properties.class.clone())
                    .or_default() += 1;
                good.push(properties);
            }
            Err(file) => unreadable.push(file),
        }
    }
    let scan = survey.report(&unreadable);
    let mut found = classes::findings(&survey, &splits);
    found.extend(unreadable.iter().map(|file| Finding {
        level: Severity::Error,
        kind: "unreadable",
        message: format!("'{}' cannot be read: {}", display_path(&file.path), file.reason),
        files: vec![display_path(&file.path)],
    }));
    found.extend(left_out(&scan, &unreadable));
    found.extend(findings(&good, NEAR_LIMIT));
    found.sort_by_key(|finding| (finding.level, finding.kind));
    for classes in splits.values_mut() {
        classes.retain(|_, count| *count > 0);
    }
    Ok(Report {
        data: display_path(root),
        splits,
        findings: found,
        ignored: scan.count(Outcome::PassedOver),
        near_duplicates_checked: good.len() <= NEAR_LIMIT,
        scan,
    })
}

fn look(root: &Path, path: &Path, place: [&str; 2]) -> Result<ImageProperties, Unreadable> {
    let full = root.join(path);
    let decoded = clr_onnx::read_image_file(&full).and_then(|bytes| {
        Ok((
            clr_onnx::decode_image_bytes_for(&bytes, &display_path(path), &[])?,
            bytes,
        ))
    });
    let (image, bytes) = decoded.map_err(|error| Unreadable::new(path.to_owned(), &error))?;
    Ok(ImageProperties::new(
        path.to_owned(),
        place,
        image.pixels(),
        image.size(),
        image.notes(),
        &bytes,
    ))
}

/// Kinds of files that should be images, but cannot be used as such.
const BROKEN: [&str; 3] = ["empty file", "no image by its content", "unreadable"];

/// Returns a finding for each line of files that were left out. Files that cannot be decoded have separate findings.
fn left_out(scan: &ScanReport, unreadable: &[Unreadable]) -> Vec<Finding> {
    let lines = scan.lines.iter().filter(|line| line.outcome == Outcome::LeftOut);
    let lines = lines.filter(|line| {
        !unreadable
            .iter()
            .any(|file| line.files.contains(&display_path(&file.path)))
    });
    lines
        .map(|line| Finding {
            // These are as severe as damaged images.
            level: if BROKEN.contains(&&*line.kind) {
                Severity::Error
            } else {
                Severity::Warning
            },
            kind: if BROKEN.contains(&&*line.kind) {
                "unreadable"
            } else {
                "left-out"
            },
            message: format!("left out: {}", line.text(crate::scan_log::NAMED)),
            files: line.files.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{Rgb, RgbImage};

    use super::*;

    fn image(path: &Path, seed: u32, side: u32) {
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
                    image(&root.join(format!("{split}/c{class}/{index}.png")), seed, 40);
                }
            }
        }
    }

    fn kinds(root: &Path) -> Vec<&'static str> {
        let report = examine(root, &LayoutOptions::default(), &|_| (), &|| ()).unwrap();
        report.findings.iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn a_healthy_folder_has_no_errors() {
        let root = tempfile::tempdir().unwrap();
        healthy(root.path());
        let report = examine(root.path(), &LayoutOptions::default(), &|_| (), &|| ()).unwrap();
        assert_eq!(report.count(Severity::Error), 0, "{:?}", report.findings);
        assert_eq!(report.splits["train"]["c0"], 10);
    }

    #[test]
    fn each_defect_has_its_own_finding() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        healthy(root);
        fs::write(root.join("train/c0/broken.png"), b"no image").unwrap();
        fs::copy(root.join("train/c0/0.png"), root.join("test/c0/copy.png")).unwrap();
        fs::copy(root.join("train/c0/1.png"), root.join("train/c1/other.png")).unwrap();
        fs::copy(root.join("train/c1/2.png"), root.join("train/c1/again.png")).unwrap();
        image(&root.join("test/c0/larger.png"), 0, 80);
        image(&root.join("test/extra/a.png"), 99, 20);
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
            image(&root.path().join(format!("a/{index}.png")), index, 40);
        }
        assert!(kinds(root.path()).contains(&"too-few-classes"));
        image(&root.path().join("b/0.png"), 50, 40);
        let kinds = kinds(root.path());
        assert!(
            kinds.contains(&"imbalance") && kinds.contains(&"small-class"),
            "{kinds:?}"
        );
    }
}
