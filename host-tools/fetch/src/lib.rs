//! Downloads: packages by their own clients, tasks as image folders, backbones as ONNX.

#![forbid(unsafe_code)]

mod archive;
mod backbone;
mod cache;
mod client;
mod error;
mod images;
mod manifest;
mod package;
mod progress;
mod registry;
mod split;
mod squeezenet;
mod tasks;

pub use backbone::{BACKBONES, BackboneItem, FetchedBackbone, Weights, fetch_backbone, find_backbone, read_labels};
pub use cache::{Cache, is_alive};
pub use error::FetchError;
pub use manifest::{FetchedTask, Manifest, ManifestSource, TaskOptions, fetch_task, folder_name};
pub use package::{Client, Package};
pub use progress::{Bar, Progress, Unit};
pub use tasks::{TASKS, Task, find as find_task};

/// Returns the error for an unknown name, with the closest known one.
pub fn unknown(name: &str) -> FetchError {
    let names = TASKS
        .iter()
        .map(|task| task.name)
        .chain(BACKBONES.iter().map(|backbone| backbone.name));
    let nearest = names
        .map(|known| (distance(name, known), known))
        .min()
        .filter(|&(distance, _)| distance <= 3);
    FetchError::UnknownItem {
        name: name.to_owned(),
        nearest: nearest.map(|(_, known)| known.to_owned()),
    }
}

/// Returns the Levenshtein distance of two byte strings.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_gets_the_closest_one() {
        let error = unknown("silhouete");
        assert!(error.to_string().contains("did you mean 'silhouettes'"), "{error}");
        assert!(!unknown("something else entirely").to_string().contains("did you mean"));
    }

    #[test]
    fn the_distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
