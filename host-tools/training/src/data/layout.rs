//! Layout of a data set: which folders are splits, and which are classes.
//!
//! The names and the structure of the folders decide, and a note states the decision. An ambiguous layout is an error
//! that asks for [`LayoutOptions`].

mod explicit;
mod guess;
mod tree;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Outcome, Scan, Split, display_path};
use crate::error::{Result, TrainError};
use tree::Tree;

/// Layout of a data set, as far as the caller states it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayoutOptions {
    /// Folders of splits, relative to the data set's folder, or their names within each class folder. If empty, the
    /// usual names are used.
    pub splits: Vec<(Split, PathBuf)>,
    /// Whether every folder is a class, whatever its name.
    pub no_splits: bool,
}

impl LayoutOptions {
    /// Sets the folders of splits. If the list is empty, the usual names are used.
    #[must_use]
    pub fn with_splits(mut self, splits: Vec<(Split, PathBuf)>) -> Self {
        self.splits = splits;
        self
    }

    /// Sets whether every folder is a class, whatever its name.
    #[must_use]
    pub fn with_no_splits(mut self, no_splits: bool) -> Self {
        self.no_splits = no_splits;
        self
    }
}

/// Images of a split, or of a data set without splits.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// The part's folder, relative to the data set's folder. It is also the name in messages.
    pub(super) folder: PathBuf,
    pub(super) name: String,
    /// Classes by name.
    pub(super) classes: BTreeMap<String, Class>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Class {
    /// The class's folders, relative to the data set's folder. There is one, unless the options state more.
    pub(super) folders: Vec<PathBuf>,
    /// The selected images, sorted.
    pub(super) images: Vec<PathBuf>,
}

/// The splits of a data set.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Empty if there are no splits. In that case `all` is set.
    pub(super) splits: BTreeMap<Split, Part>,
    pub(super) all: Option<Part>,
    /// Decisions, for the user.
    pub(super) notes: Vec<String>,
}

/// Location of a split's class folders.
#[derive(Debug, Default)]
struct Places {
    splits: BTreeMap<Split, Vec<Place>>,
    all: Option<PathBuf>,
    notes: Vec<String>,
}

/// A folder that contains class folders, or the folder of one class in a split.
#[derive(Clone, Debug)]
enum Place {
    Classes(PathBuf),
    Class(String, PathBuf),
}

impl Layout {
    /// Determines the layout of `scan`, and marks images that belong to no class as left out.
    pub(super) fn of(scan: &mut Scan, options: &LayoutOptions) -> Result<Self> {
        let tree = Tree::of(scan);
        let places = if options.no_splits {
            let (folder, notes) = guess::class_folders(&tree);
            Places {
                all: Some(folder),
                notes,
                ..Places::default()
            }
        } else if options.splits.is_empty() {
            guess::places(&tree, scan.root())?
        } else {
            explicit::places(&tree, scan.root(), &options.splits)?
        };
        let mut layout = Self {
            notes: places.notes,
            ..Self::default()
        };
        for (split, places) in places.splits {
            let part = layout.splits.entry(split).or_default();
            for place in places {
                part.add(&tree, &place, &mut layout.notes)?;
            }
        }
        if let Some(folder) = places.all {
            let mut part = Part::default();
            part.add(&tree, &Place::Classes(folder), &mut layout.notes)?;
            layout.all = Some(part);
        }
        layout.take(scan);
        layout.similar_names();
        Ok(layout)
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.splits.values().chain(&self.all)
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        self.splits.values_mut().chain(&mut self.all)
    }

    /// Assigns images to classes, and leaves out those without a class.
    fn take(&mut self, scan: &mut Scan) {
        let mut outside = Vec::new();
        let mut classes: Vec<&mut Class> = self.parts_mut().flat_map(|part| part.classes.values_mut()).collect();
        let mut by_folder = BTreeMap::new();
        for (index, class) in classes.iter().enumerate() {
            by_folder.extend(class.folders.iter().map(|folder| (folder.clone(), index)));
        }
        for (path, verdict) in scan.files() {
            // The nearest parent folder that is a class.
            let class = path.ancestors().skip(1).find_map(|folder| by_folder.get(folder));
            match (class, verdict.outcome) {
                (Some(&class), Outcome::Image) => classes[class].images.push(path.clone()),
                (None, Outcome::Image) => outside.push(path.clone()),
                _ => {}
            }
        }
        for path in outside {
            scan.leave_out(&path, "it is outside of the class folders");
        }
    }

    /// Adds a note on classes whose names differ only in capitalisation or spaces.
    fn similar_names(&mut self) {
        let names = self.parts().flat_map(|part| part.classes.keys());
        let mut alike: BTreeMap<String, std::collections::BTreeSet<&String>> = BTreeMap::new();
        for name in names {
            alike.entry(name.trim().to_lowercase()).or_default().insert(name);
        }
        let mut notes = Vec::new();
        for names in alike.values() {
            let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
            if names.len() > 1 {
                let names = names.join(" and ");
                notes.push(format!(
                    "{names} are different classes, whose names differ only in case or spaces"
                ));
            }
        }
        for name in alike.values().flatten().filter(|name| name.trim() != name.as_str()) {
            notes.push(format!(
                "the class '{name}' has a space at the start or end of its name, which is part of its label"
            ));
        }
        self.notes.append(&mut notes);
    }
}

impl Part {
    /// Returns the part's name, and the number of images of each class.
    pub(super) fn counts(&self) -> (String, Vec<(String, usize)>) {
        let classes = self
            .classes
            .iter()
            .map(|(class, found)| (class.clone(), found.images.len()));
        (self.name.clone(), classes.collect())
    }

    fn add(&mut self, tree: &Tree, place: &Place, notes: &mut Vec<String>) -> Result<()> {
        let (folder, classes) = match place {
            Place::Classes(folder) => {
                let children = tree.children(folder);
                let classes: Vec<(String, PathBuf)> = children
                    .filter_map(|child| {
                        if child.bears() || child.files == 0 {
                            return Some(label(&child.path).map(|label| (label, child.path.clone())));
                        }
                        let path = display_path(&child.path);
                        notes.push(format!("the folder '{path}' contains no images and is not a class"));
                        None
                    })
                    .collect::<Result<_>>()?;
                (folder, classes)
            }
            Place::Class(class, folder) => (folder, vec![(class.clone(), folder.clone())]),
        };
        if self.classes.is_empty() {
            // If the splits are inside of class folders, a split's folder has the same name in each.
            let name = match place {
                Place::Classes(_) => Some(folder.as_path()),
                Place::Class(..) => folder.file_name().map(Path::new),
            };
            self.name = display_path(name.unwrap_or(folder));
            folder.clone_into(&mut self.folder);
        }
        for (class, folder) in classes {
            self.classes.entry(class).or_default().folders.push(folder);
        }
        Ok(())
    }
}

/// Returns the label of a class folder.
fn label(folder: &Path) -> Result<String> {
    let name = folder.file_name().unwrap_or_default();
    name.to_str().map(str::to_owned).ok_or_else(|| TrainError::ClassName {
        folder: display_path(folder),
    })
}
