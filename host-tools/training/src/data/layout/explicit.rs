//! Layout with splits that options specify.

use std::path::{Path, PathBuf};

use super::{
    super::{Split, display_path, split_names::is_filler_name},
    Place, Places, label,
    tree::Tree,
};
use crate::error::{Result, TrainError};

pub(super) fn places(tree: &Tree, root: &Path, splits: &[(Split, PathBuf)]) -> Result<Places> {
    let mut places = Places::default();
    for (split, folder) in splits {
        let of_split = places.splits.entry(*split).or_default();
        if tree.get(folder).is_some() {
            of_split.push(Place::Classes(classes_below(tree, folder)));
            continue;
        }
        // The same name in each class folder.
        let before = of_split.len();
        for class in tree.bearing(Path::new("")) {
            let below = class.path.join(folder);
            if tree.get(&below).is_some() {
                of_split.push(Place::Class(label(&class.path)?, below));
            }
        }
        if of_split.len() == before {
            let there: Vec<String> = tree
                .bearing(Path::new(""))
                .iter()
                .map(|folder| display_path(&folder.path))
                .collect();
            return Err(TrainError::UnclearSplits {
                path: root.to_owned(),
                reason: format!("there is no folder '{}', given with --splits", display_path(folder)),
                hint: format!("the folders there are {}", there.join(", ")),
            });
        }
    }
    Ok(places)
}

/// Returns the folder itself. If its only subfolder has a filler name and contains the class folders, returns that
/// subfolder.
fn classes_below(tree: &Tree, folder: &Path) -> PathBuf {
    match tree.bearing(folder)[..] {
        [only] if is_filler_name(only.name()) && !tree.bearing(&only.path).is_empty() => only.path.clone(),
        _ => folder.to_owned(),
    }
}
