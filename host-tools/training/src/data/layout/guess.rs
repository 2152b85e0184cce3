//! Detection of splits and classes from the names and structure of folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    super::{
        Split, display_path,
        split_names::{is_filler_name, split_of},
    },
    Place, Places, label,
    tree::{Folder, Tree},
};
use crate::error::{Result, TrainError};

/// Maximum depth of folders around a data set.
const WRAPPING: usize = 4;

pub(super) fn places(tree: &Tree, root: &Path) -> Result<Places> {
    let mut at = PathBuf::new();
    let guess = Guess { tree, root };
    for _ in 0..WRAPPING {
        if let Some(mut places) = guess.splits(&at)? {
            if !at.as_os_str().is_empty() {
                places
                    .notes
                    .insert(0, format!("the data set is in '{}'", display_path(&at)));
            }
            return Ok(places);
        }
        // Descends as long as a single folder contains everything.
        match tree.bearing(&at)[..] {
            [only] if tree.get(&at).is_some_and(|folder| folder.own == 0) => at = only.path.clone(),
            _ => break,
        }
    }
    let (at, mut notes) = class_folders(tree);
    notes.extend(guess.named_as_split(&at)?);
    Ok(Places {
        all: Some(at),
        notes,
        ..Places::default()
    })
}

/// Returns the location of the class folders of a data set without splits. A folder that may be a class itself is not
/// searched.
pub(super) fn class_folders(tree: &Tree) -> (PathBuf, Vec<String>) {
    let mut at = PathBuf::new();
    let mut notes = Vec::new();
    for _ in 0..WRAPPING {
        match tree.bearing(&at)[..] {
            [only] if is_filler_name(only.name()) && !tree.bearing(&only.path).is_empty() => {
                at = only.path.clone();
                notes = vec![format!("the class folders are in '{}'", display_path(&at))];
            }
            _ => break,
        }
    }
    (at, notes)
}

struct Guess<'a> {
    tree: &'a Tree,
    root: &'a Path,
}

impl<'a> Guess<'a> {
    /// Returns the splits in a folder, if there are any.
    fn splits(&self, at: &Path) -> Result<Option<Places>> {
        let (named, others) = self.named(at);
        if named.is_empty() {
            return self.class_first(at, &others);
        }
        let structured: Vec<_> = named
            .iter()
            .filter_map(|&(split, folder)| Some((split, folder, self.class_level(split, folder)?)))
            .collect();
        if structured.is_empty() {
            return Ok(None);
        }
        for (split, folder, _) in &structured {
            let again = structured
                .iter()
                .find(|(other, one, _)| other == split && one.path != folder.path);
            if let Some((_, other, _)) = again {
                let reason = format!(
                    "'{}' and '{}' are both named like {}",
                    folder.name(),
                    other.name(),
                    spoken(*split)
                );
                let mut first = BTreeMap::new();
                for (split, folder, _) in &structured {
                    first.entry(*split).or_insert(*folder);
                }
                return Err(self.unclear(reason, &first.into_iter().collect::<Vec<_>>()));
            }
        }
        let roles: BTreeSet<Split> = named.iter().map(|(split, _)| *split).collect();
        let siblings = others.iter().filter(|folder| folder.bears()).count();
        if roles.len() == 1 && siblings > 0 {
            let (split, folder, _) = structured[0];
            let reason = format!(
                "'{}' may be {} or a class like '{}' next to it",
                folder.name(),
                spoken(split),
                others[0].name()
            );
            return Err(self.unclear(reason, &[(split, folder)]));
        }
        let mut places = Places::default();
        let mut decisions = Vec::new();
        for (split, folder, level) in structured {
            decisions.push(format!("'{}' is {}", display_path(&folder.path), spoken(split)));
            places.splits.entry(split).or_default().push(Place::Classes(level));
        }
        places.notes.push(decisions.join(", "));
        for (_, folder) in &named {
            if !places.notes[0].contains(&format!("'{}'", display_path(&folder.path))) {
                let path = display_path(&folder.path);
                places.notes.push(format!(
                    "'{path}' contains images without class folders: they have no labels"
                ));
            }
        }
        for folder in others.iter().filter(|folder| folder.bears()) {
            let path = display_path(&folder.path);
            places
                .notes
                .push(format!("'{path}' is next to the splits and belongs to none"));
        }
        Ok(Some(places))
    }

    /// Returns two lists of subfolders with images: those whose names denote splits, and the others.
    fn named(&self, at: &Path) -> (Vec<(Split, &'a Folder)>, Vec<&'a Folder>) {
        let bearing = self.tree.bearing(at);
        let found: Vec<_> = bearing
            .iter()
            .map(|&folder| (folder, split_of(folder.name())))
            .collect();
        // `birds_train` is a split if `birds_test` is next to it.
        let mut rests: BTreeMap<&str, BTreeSet<Split>> = BTreeMap::new();
        for (split, rest) in found.iter().filter_map(|(_, found)| found.as_ref()) {
            rests.entry(rest).or_default().insert(*split);
        }
        let (mut named, mut others) = (Vec::new(), Vec::new());
        for (folder, found) in &found {
            match found {
                Some((split, rest)) if rest.is_empty() || rests[rest.as_str()].len() > 1 => {
                    named.push((*split, *folder));
                }
                _ => others.push(*folder),
            }
        }
        (named, others)
    }

    /// Returns the location of a split's class folders: its own folder, or a subfolder whose name consists of filler
    /// words.
    fn class_level(&self, split: Split, folder: &Folder) -> Option<PathBuf> {
        let mut at = folder;
        for _ in 0..WRAPPING {
            match self.tree.bearing(&at.path)[..] {
                [] => return None,
                [only]
                    if at.own == 0
                        && (is_filler_name(only.name()) || split_of(only.name()) == Some((split, String::new()))) =>
                {
                    at = only;
                }
                _ => return Some(at.path.clone()),
            }
        }
        None
    }

    /// Returns class folders that contain the splits.
    fn class_first(&self, at: &Path, classes: &[&Folder]) -> Result<Option<Places>> {
        let below = |class: &Folder| -> (Vec<(Split, &Folder)>, usize) {
            let bearing = self.tree.bearing(&class.path);
            let count = bearing.len();
            let splits = bearing.into_iter().filter_map(|folder| match split_of(folder.name()) {
                Some((split, rest)) if rest.is_empty() => Some((split, folder)),
                _ => None,
            });
            (splits.collect(), count)
        };
        let all: Vec<_> = classes.iter().map(|&class| (class, below(class))).collect();
        if all.len() < 2 || all.iter().all(|(_, (splits, _))| splits.is_empty()) {
            return Ok(None);
        }
        let whole = |class: &Folder, splits: &[(Split, &Folder)], count: usize| {
            let roles: BTreeSet<Split> = splits.iter().map(|(split, _)| *split).collect();
            class.own == 0 && splits.len() == count && roles.len() == splits.len()
        };
        let odd = all
            .iter()
            .find(|(class, (splits, count))| splits.is_empty() || !whole(class, splits, *count));
        if let Some((odd, _)) = odd {
            // One such name within a class may be a coincidence, but two mean splits.
            let two = all
                .iter()
                .find(|(_, (splits, _))| splits.iter().map(|(split, _)| *split).collect::<BTreeSet<_>>().len() > 1);
            return match two {
                None => Ok(None),
                Some((class, (splits, _))) => {
                    let names: Vec<String> = splits
                        .iter()
                        .map(|(_, folder)| format!("'{}'", folder.name()))
                        .collect();
                    let reason = format!(
                        "'{}' contains {}, which are named like splits, but '{}' also contains other folders",
                        display_path(&class.path),
                        names.join(" and "),
                        display_path(&odd.path)
                    );
                    Err(TrainError::UnclearSplits {
                        path: self.root.join(at),
                        reason,
                        hint: format!(
                            "--no-splits assigns every image below a class folder to its class; otherwise move the \
                             images of '{}' into such folders",
                            display_path(&odd.path)
                        ),
                    })
                }
            };
        }
        let mut places = Places::default();
        for (class, (splits, _)) in &all {
            for (split, folder) in splits {
                let place = Place::Class(label(&class.path)?, folder.path.clone());
                places.splits.entry(*split).or_default().push(place);
            }
        }
        let names: BTreeSet<&str> = all
            .iter()
            .flat_map(|(_, (splits, _))| splits.iter().map(|(_, folder)| folder.name()))
            .collect();
        let names: Vec<String> = names.into_iter().map(|name| format!("'{name}'")).collect();
        places
            .notes
            .push(format!("each class folder holds its splits: {}", names.join(", ")));
        Ok(Some(places))
    }

    /// Returns a note if one class folder is named `train`, as may occur among vehicles. Other class folders with names
    /// of splits are an error.
    fn named_as_split(&self, at: &Path) -> Result<Vec<String>> {
        let (named, others) = self.named(at);
        let Some(&(split, first)) = named.first() else {
            return Ok(Vec::new());
        };
        if named.len() == 1 && !others.is_empty() && first.name().to_lowercase() == "train" {
            let note = format!(
                "'{}' is a class like '{}': it contains images and no class folders",
                display_path(&first.path),
                others[0].name()
            );
            return Ok(vec![note]);
        }
        let names: Vec<String> = named.iter().map(|(_, folder)| format!("'{}'", folder.name())).collect();
        let reason = if named.len() == 1 {
            format!(
                "{} is named like {} and contains images, but no class folders",
                names[0],
                spoken(split)
            )
        } else {
            format!(
                "{} are named like splits and contain images, but no class folders",
                names.join(" and ")
            )
        };
        Err(TrainError::UnclearSplits {
            path: self.root.join(at),
            reason,
            hint: format!(
                "put the images of each class into a folder, {}/<class>/; if these folders are the classes, give --no-splits",
                display_path(&first.path)
            ),
        })
    }

    /// Returns the error for an ambiguous layout, with the options that resolve it.
    fn unclear(&self, reason: String, folders: &[(Split, &Folder)]) -> TrainError {
        let options: Vec<String> = folders
            .iter()
            .map(|(split, folder)| format!("{}='{}'", split.name(), display_path(&folder.path)))
            .collect();
        TrainError::UnclearSplits {
            path: self.root.to_owned(),
            reason,
            hint: format!(
                "--splits {} states which folders are splits; with --no-splits every folder is a class",
                options.join(",")
            ),
        }
    }
}

fn spoken(split: Split) -> &'static str {
    match split {
        Split::Train => "the training split",
        Split::Validation => "the validation split",
        Split::Test => "the test split",
    }
}
