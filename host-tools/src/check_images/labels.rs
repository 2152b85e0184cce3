//! Classes of images from the names of their folders.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Rule from a folder's name to a class.
type Rule<'a> = &'a dyn Fn(&str) -> Option<usize>;

/// Classes by image.
pub(super) struct Labelling {
    pub(super) classes: Vec<Option<usize>>,
    /// The rule; `None` if no rule fits.
    pub(super) by: Option<&'static str>,
    /// Folders without a class, if other folders have one.
    pub(super) unknown: Vec<String>,
}

/// Labels every image in `root` by its folder. The folder's name is a label or a class's number. If there are as many
/// folders as classes, it may also be the position in alphabetical order (torchvision's `ImageFolder`, the synsets of
/// ILSVRC). `named` states whether the labels are real names.
pub(super) fn of(root: &Path, images: &[PathBuf], labels: &[String], named: bool) -> Labelling {
    let folders: Vec<Option<String>> = images.iter().map(|image| folder(root, image)).collect();
    let names: BTreeSet<&str> = folders.iter().flatten().map(String::as_str).collect();
    let by_label = |name: &str| -> Option<usize> {
        let wanted = spelling(name);
        let is = |label: &String| spelling(label) == wanted;
        // The complete label is compared first, because the names of ILSVRC list synonyms.
        labels
            .iter()
            .position(|label| label == name)
            .or_else(|| labels.iter().position(is))
            .or_else(|| {
                let mut synonym = labels
                    .iter()
                    .enumerate()
                    .filter(|(_, label)| label.split(',').any(|one| spelling(one) == wanted));
                match (synonym.next(), synonym.next()) {
                    (Some((class, _)), None) => Some(class),
                    _ => None,
                }
            })
    };
    let by_number = |name: &str| name.parse::<usize>().ok().filter(|&class| class < labels.len());
    let sorted: Vec<&str> = names.iter().copied().collect();
    let by_place = |name: &str| sorted.binary_search(&name).ok();
    let matched = |of: &dyn Fn(&str) -> Option<usize>| names.iter().filter(|name| of(name).is_some()).count();
    let chosen: Option<(&'static str, Rule<'_>)> = if names.is_empty() {
        None
    } else if named && matched(&by_label) > 0 {
        Some(("label", &by_label))
    } else if matched(&by_number) == names.len() {
        Some(("class number", &by_number))
    } else if names.len() == labels.len() && (!named || names.iter().all(|name| is_synset(name))) {
        Some(("place in alphabetical order", &by_place))
    } else {
        None
    };
    let Some((by, class)) = chosen else {
        return Labelling {
            classes: vec![None; images.len()],
            by: None,
            unknown: Vec::new(),
        };
    };
    Labelling {
        classes: folders.iter().map(|folder| class(folder.as_deref()?)).collect(),
        by: Some(by),
        unknown: names
            .iter()
            .filter(|name| class(name).is_none())
            .map(|&name| name.to_owned())
            .collect(),
    }
}

/// Returns the folder below `root` whose name is an image's class, skipping folders of splits.
fn folder(root: &Path, image: &Path) -> Option<String> {
    const SPLITS: [&str; 8] = [
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "eval",
    ];
    let inner = image.strip_prefix(root).ok()?.parent()?;
    let mut names = inner.iter().map(|name| name.to_string_lossy().into_owned());
    let first = names.next()?;
    match names.next() {
        Some(second) if SPLITS.contains(&first.to_lowercase().as_str()) => Some(second),
        _ => Some(first),
    }
}

/// Returns a name in lower case, with a single kind of separator.
fn spelling(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', '-'], " ")
}

/// Returns whether a name is a synset of `WordNet`, such as `n01440764`.
fn is_synset(name: &str) -> bool {
    name.strip_prefix('n')
        .is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(folders: &[&str], labels: &[&str], named: bool) -> (Vec<Option<usize>>, Option<&'static str>) {
        let images: Vec<PathBuf> = folders
            .iter()
            .map(|folder| Path::new("root").join(folder).join("a.png"))
            .collect();
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        let labelling = of(Path::new("root"), &images, &labels, named);
        (labelling.classes, labelling.by)
    }

    #[test]
    fn folders_are_labels_numbers_or_positions() {
        let animals = ["cat", "great white shark, man-eater", "dog"];
        assert_eq!(
            classes(&["dog", "cat", "dog"], &animals, true),
            (vec![Some(2), Some(0), Some(2)], Some("label"))
        );
        assert_eq!(classes(&["Great_White_Shark"], &animals, true).0, [Some(1)]);
        assert_eq!(classes(&["val/dog", "test/cat"], &animals, true).0, [Some(2), Some(0)]);
        assert_eq!(
            classes(&["2", "0"], &animals, true),
            (vec![Some(2), Some(0)], Some("class number"))
        );
        let unnamed = ["class 0", "class 1", "class 2"];
        let places = (vec![Some(2), Some(0), Some(1)], Some("place in alphabetical order"));
        assert_eq!(classes(&["z", "a", "b"], &unnamed, false), places);
        let synsets = ["n00000003", "n00000001", "n00000002"];
        assert_eq!(classes(&synsets, &animals, true), places);
    }

    #[test]
    fn images_without_a_class_stay_unlabelled() {
        let animals = ["cat", "dog"];
        assert_eq!(classes(&["", "cat"], &animals, true).0, [None, Some(0)]);
        assert_eq!(classes(&["horse", "cat"], &animals, true).0, [None, Some(0)]);
        assert_eq!(classes(&["photos"], &animals, true), (vec![None], None));
        // There are as many folders as classes, but with other names, so no class is guessed.
        assert_eq!(classes(&["a", "b"], &animals, true), (vec![None, None], None));
        assert_eq!(classes(&["7", "0"], &animals, true), (vec![None, None], None));
    }
}
