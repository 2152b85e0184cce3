//! The checks, each adding its findings to the report.

use std::{collections::HashMap, path::PathBuf};

use clr_adapters::Digest;

use super::{Entry, Finding, Level, Looked, Report};
use crate::fingerprint::{self, Fingerprint};

/// Sides shorter than this carry little for a network that looks at 224 pixels.
const SMALL_SIDE: u32 = 32;
/// Classes with fewer training pictures than this are hardly learned, and their accuracy hardly measured.
const FEW_PICTURES: usize = 10;
/// The largest class over the smallest.
const IMBALANCE: usize = 5;

/// Number of classes, their sizes, and classes that only a later split knows.
pub(super) fn classes(report: &mut Report) {
    let mut findings = Vec::new();
    let training = report
        .splits
        .get("train")
        .or_else(|| report.splits.get("all"))
        .cloned()
        .unwrap_or_default();
    let mut add = |level, kind, message| {
        findings.push(Finding {
            level,
            kind,
            message,
            files: Vec::new(),
        });
    };
    if training.len() < 2 {
        add(
            Level::Error,
            "too-few-classes",
            format!("{} class with pictures, at least 2 are needed", training.len()),
        );
    }
    for (split, classes) in &report.splits {
        for class in classes.keys().filter(|class| !training.contains_key(*class)) {
            add(
                Level::Error,
                "unknown-class",
                format!("class '{class}' stands in '{split}' but not in training"),
            );
        }
    }
    for (class, &count) in &training {
        if count < FEW_PICTURES {
            add(
                Level::Warning,
                "small-class",
                format!("class '{class}' has {count} pictures, fewer than {FEW_PICTURES}"),
            );
        }
    }
    let smallest = training.iter().min_by_key(|(_, count)| **count);
    let largest = training.iter().max_by_key(|(_, count)| **count);
    if let (Some((small, &few)), Some((large, &many))) = (smallest, largest)
        && many > IMBALANCE * few
    {
        let message =
            format!("class '{large}' has {many} pictures, '{small}' only {few}: accuracy will follow the large one");
        add(Level::Warning, "imbalance", message);
    }
    report.findings.append(&mut findings);
}

/// Equal pixels: across splits and under two labels an error, within a split a warning.
pub(super) fn duplicates(good: &[(Entry, Looked)], report: &mut Report) {
    let mut same: HashMap<Digest, Vec<&Entry>> = HashMap::new();
    for (entry, looked) in good {
        same.entry(looked.pixels).or_default().push(entry);
    }
    let mut sets: Vec<Vec<&Entry>> = same.into_values().filter(|entries| entries.len() > 1).collect();
    sets.sort_by(|a, b| a[0].path.cmp(&b[0].path));
    for entries in sets {
        let first = entries[0];
        let count = entries.len();
        let files = entries.iter().map(|entry| entry.path.clone()).collect();
        let (level, kind, what) = if entries.iter().any(|entry| entry.class != first.class) {
            (Level::Error, "contradictory-labels", "under different labels")
        } else if entries.iter().any(|entry| entry.split != first.split) {
            (
                Level::Error,
                "duplicate-across-splits",
                "in different splits: the measured accuracy would be too high",
            )
        } else {
            (Level::Warning, "duplicate", "within one split")
        };
        let message = format!(
            "'{}' and {} more are the same picture, {what}",
            first.path.display(),
            count - 1
        );
        report.findings.push(Finding {
            level,
            kind,
            message,
            files,
        });
    }
}

pub(super) fn near_duplicates(good: &[(Entry, Looked)], report: &mut Report) {
    let prints: Vec<Fingerprint> = good.iter().map(|(_, looked)| looked.print).collect();
    for (a, b) in fingerprint::near_pairs(&prints) {
        let ((first, one), (second, other)) = (&good[a], &good[b]);
        if first.split != second.split && one.pixels != other.pixels {
            report.findings.push(Finding {
                level: Level::Warning,
                kind: "near-duplicate-across-splits",
                message: format!("'{}' and '{}' look alike", first.path.display(), second.path.display()),
                files: vec![first.path.clone(), second.path.clone()],
            });
        }
    }
}

pub(super) fn small(good: &[(Entry, Looked)], report: &mut Report) {
    let files: Vec<PathBuf> = good
        .iter()
        .filter(|(_, looked)| looked.size.0.min(looked.size.1) < SMALL_SIDE)
        .map(|(entry, _)| entry.path.clone())
        .collect();
    if !files.is_empty() {
        let message = format!(
            "{} of {} pictures have a side under {SMALL_SIDE} pixels",
            files.len(),
            good.len()
        );
        report.findings.push(Finding {
            level: Level::Warning,
            kind: "small-pictures",
            message,
            files,
        });
    }
}
