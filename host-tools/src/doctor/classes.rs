//! Checks of classes and splits: their number, sizes and names.

use std::collections::BTreeMap;

use clr_training::{
    Survey,
    inspect::{Finding, Severity},
};

/// Minimum number of training images of a class without a warning.
const FEW_IMAGES: usize = 10;
/// Maximum ratio of the largest class to the smallest without a warning.
const IMBALANCE: usize = 5;

/// Returns the findings on the classes. `splits` contains the number of readable images by split and class.
pub(super) fn findings(survey: &Survey, splits: &BTreeMap<String, BTreeMap<String, usize>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |level, kind, message| {
        findings.push(Finding {
            level,
            kind,
            message,
            files: Vec::new(),
        });
    };
    for note in &survey.notes {
        add(Severity::Note, "layout", note.clone());
    }
    if let Some(problem) = &survey.problem {
        add(
            Severity::Error,
            "unclear-layout",
            problem.to_string().replace("\nhint: ", "; "),
        );
        return findings;
    }
    let Some((name, _)) = survey.parts.first() else {
        return findings;
    };
    let training: BTreeMap<&String, usize> = splits[name]
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(class, count)| (class, *count))
        .collect();
    if training.len() < 2 {
        add(
            Severity::Error,
            "too-few-classes",
            format!("{} class with images, at least 2 are needed", training.len()),
        );
    }
    for (split, classes) in splits {
        for (class, count) in classes {
            if *count == 0 {
                let message = format!("class folder '{class}' in '{split}' contains no images");
                add(Severity::Error, "empty-class", message);
            }
            if !splits[name].contains_key(class) {
                let message = format!("class '{class}' is in '{split}' but not in '{name}'");
                add(Severity::Error, "unknown-class", message);
            }
        }
    }
    for (class, &count) in &training {
        if count < FEW_IMAGES {
            let message = format!("class '{class}' has {count} images, fewer than {FEW_IMAGES}");
            add(Severity::Warning, "small-class", message);
        }
    }
    let smallest = training.iter().min_by_key(|(_, count)| **count);
    let largest = training.iter().max_by_key(|(_, count)| **count);
    if let (Some((small, &few)), Some((large, &many))) = (smallest, largest)
        && many > IMBALANCE * few
    {
        let message =
            format!("class '{large}' has {many} images, '{small}' only {few}: accuracy will follow the large one");
        add(Severity::Warning, "imbalance", message);
    }
    findings
}
