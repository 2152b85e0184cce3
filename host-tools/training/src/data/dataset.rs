//! Data set: classes, and the images of each split.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use rand::seq::SliceRandom as _;

use super::{
    Outcome, Unreadable, Warning,
    layout::{Layout, LayoutOptions, Part},
    scan::{Scan, ScanReport},
};
use crate::{
    Purpose,
    error::{Result, TrainError},
    stream,
    uncertainty::standard_error,
};

/// A labelled image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// Path relative to the data set's root.
    pub path: PathBuf,
    /// Index into [`Dataset::classes`].
    pub class: usize,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// Images for training.
    Train,
    /// Images for selecting among models. They are disjoint from those of the other splits.
    Validation,
    /// Images used only for the final evaluation, if the data set has any.
    Test,
}

impl Split {
    /// Returns `train`, `validation` or `test`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// Returns the split that a word such as `Training`, `val` or `holdout` denotes.
    pub fn from_name(name: &str) -> Option<Self> {
        super::split_names::split_of(name)
            .filter(|(_, rest)| rest.is_empty())
            .map(|(split, _)| split)
    }
}

/// Options for dividing the training images, used if there is no validation folder.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SplitOptions {
    /// Fraction of each class used for validation, 0–0.9 exclusive. Ignored if there is a `val/` folder.
    pub validation_fraction: f32,
    /// Seed for the choice of the validation images.
    pub seed: u64,
    /// Maximum total number of training and validation images, with the classes in proportion (for studies).
    pub limit: Option<usize>,
    /// Layout of the folders, as far as the caller states it.
    pub layout: LayoutOptions,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self {
            validation_fraction: 0.2,
            seed: 0,
            limit: None,
            layout: LayoutOptions::default(),
        }
    }
}

impl SplitOptions {
    /// Sets the fraction of each class used for validation, in 0–0.9 exclusive.
    #[must_use]
    pub fn with_validation_fraction(mut self, validation_fraction: f32) -> Self {
        self.validation_fraction = validation_fraction;
        self
    }

    /// Sets the seed for the choice of the validation images.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the maximum number of training and validation images together; `None` for no maximum.
    #[must_use]
    pub fn with_limit(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.limit = limit.into();
        self
    }

    /// Sets the layout of the folders, as far as the caller states it.
    #[must_use]
    pub fn with_layout(mut self, layout: LayoutOptions) -> Self {
        self.layout = layout;
        self
    }
}

/// Class folders with images in training, validation and optionally test splits.
#[derive(Clone, Debug)]
pub struct Dataset {
    root: PathBuf,
    classes: Vec<String>,
    train: Vec<Sample>,
    validation: Vec<Sample>,
    test: Option<Vec<Sample>>,
    /// For each folder that contains class folders: its name, and each class with its number of images. The numbers are
    /// from before the validation split.
    parts: Vec<(String, Vec<(String, usize)>)>,
    scan: Scan,
    notes: Vec<String>,
}

impl Dataset {
    /// Reads the folders under `root`. These are one folder per class, or folders of splits that contain class folders,
    /// or class folders that contain the splits; see [`LayoutOptions`]. Folders in a class folder belong to the class.
    /// Other files are listed in [`Dataset::report`].
    ///
    /// A test split exists only if there is a folder for it. A training split is not required.
    ///
    /// # Errors
    /// [`TrainError`] if an option is outside its range, if a folder cannot be read, if the layout is ambiguous, or if
    /// the classes or their images do not suffice.
    pub fn open(root: &Path, options: &SplitOptions) -> Result<Self> {
        if !(options.validation_fraction > 0.0 && options.validation_fraction < 0.9) {
            return Err(TrainError::InvalidOption {
                option: "validation_fraction",
                expected: "above 0 and below 0.9",
                got: options.validation_fraction.to_string(),
            });
        }
        let mut scan = Scan::of(root)?;
        if root.is_file() {
            return Err(TrainError::Read {
                path: root.to_owned(),
                source: std::io::ErrorKind::NotADirectory.into(),
            });
        }
        let Layout {
            mut splits,
            all,
            mut notes,
        } = Layout::of(&mut scan, &options.layout)?;
        let parts = splits.values().chain(&all).map(Part::counts).collect();
        let whole = all.is_some();
        let main = all.or_else(|| splits.remove(&Split::Train));
        let classes: Vec<String> = match &main {
            Some(main) => main.classes.keys().cloned().collect(),
            None => splits
                .values()
                .flat_map(|part| part.classes.keys().cloned())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        };
        if classes.len() < 2 {
            return Err(TrainError::TooFewClasses {
                path: main
                    .as_ref()
                    .map_or_else(|| root.to_owned(), |main| root.join(&main.folder)),
                found: classes.len(),
            });
        }
        let named = main.as_ref().map(|main| main.name.clone());
        let mut take = |part: Part, required: bool| -> Result<Vec<Vec<PathBuf>>> {
            let mut images = vec![Vec::new(); classes.len()];
            for (class, found) in part.classes {
                let index =
                    classes
                        .iter()
                        .position(|known| *known == class)
                        .ok_or_else(|| TrainError::UnknownClass {
                            split: part.name.clone(),
                            train: named.clone().unwrap_or_default(),
                            similar: similar(&class, &classes),
                            class: class.clone(),
                        })?;
                if found.images.is_empty() {
                    let folder = &found.folders[0];
                    if required {
                        return Err(scan.empty_class(class, folder));
                    }
                    notes.push(format!("class '{class}' has no images in '{}'", part.name));
                }
                images[index] = found.images;
            }
            Ok(images)
        };
        let mut main = main.map(|main| take(main, true)).transpose()?;
        let mut other = |split| splits.remove(&split).map(|part| take(part, false)).transpose();
        let (validation, test) = (other(Split::Validation)?, other(Split::Test)?);

        let total: usize = main.iter().flatten().map(Vec::len).sum();
        for (class, images) in main.iter_mut().flatten().enumerate() {
            images.shuffle(&mut stream(options.seed, Purpose::Split, class as u64, 0));
            if let Some(limit) = options.limit {
                let keep = (images.len() as f64 * limit as f64 / total as f64).round() as usize;
                images.truncate(keep.max(2));
            }
        }
        let validation = match (validation, &mut main) {
            (Some(validation), _) => validation,
            (None, Some(main)) => (main.iter_mut().zip(&classes))
                .map(|(images, class)| split_off(images, class, options.validation_fraction))
                .collect::<Result<Vec<_>>>()?,
            (None, None) => Vec::new(),
        };
        if !whole && main.is_none() {
            notes.push("there is no training split".to_owned());
        }
        Ok(Self {
            root: root.to_owned(),
            train: samples(main.unwrap_or_default()),
            validation: samples(validation),
            test: test.map(samples),
            classes,
            parts,
            scan,
            notes,
        })
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the class names, sorted. Their order is the order of the logits.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Returns the data set with its classes in the order of `labels`, which is that of an adapter's logits.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`] if the data set has other classes.
    pub fn with_classes(&self, labels: &[String]) -> Result<Self> {
        let place = |class: &String| labels.iter().position(|label| label == class);
        let places = self.classes.iter().map(place).collect::<Option<Vec<usize>>>();
        let places = places.filter(|places| places.len() == labels.len());
        let places = places.ok_or_else(|| TrainError::Mismatch {
            what: "classes".to_owned(),
            expected: labels.join(", "),
            got: self.classes.join(", "),
        })?;
        let mut ordered = self.clone();
        ordered.classes = labels.to_vec();
        let splits = [
            Some(&mut ordered.train),
            Some(&mut ordered.validation),
            ordered.test.as_mut(),
        ];
        for sample in splits.into_iter().flatten().flatten() {
            sample.class = places[sample.class];
        }
        Ok(ordered)
    }

    /// Returns the images of a split, sorted by path.
    ///
    /// # Errors
    /// [`TrainError::NoSuchSplit`] if the data set has no such split.
    pub fn samples(&self, split: Split) -> Result<&[Sample]> {
        let found = match split {
            Split::Train => Some(&self.train).filter(|samples| !samples.is_empty()),
            Split::Validation => Some(&self.validation).filter(|samples| !samples.is_empty()),
            Split::Test => self.test.as_ref(),
        };
        found.map(Vec::as_slice).ok_or_else(|| TrainError::NoSuchSplit {
            path: self.root.clone(),
            split: split.name(),
        })
    }

    /// Returns whether there is a test split.
    pub fn has_test(&self) -> bool {
        self.test.is_some()
    }

    /// Returns the scan's report. `unreadable` are files that failed to decode later; they are listed as left out.
    /// Images in splits other than `splits` are listed as ignored.
    pub fn report<'a>(&self, splits: &[Split], unreadable: impl IntoIterator<Item = &'a Unreadable>) -> ScanReport {
        let mut scan = self.scan.clone();
        for split in [Split::Train, Split::Validation, Split::Test] {
            if !splits.contains(&split) {
                for sample in self.samples(split).unwrap_or_default() {
                    scan.pass_over(&sample.path, "in another split");
                }
            }
        }
        scan.report(unreadable)
    }

    /// Returns the number of images of each class in each folder of class folders, with the folder's name.
    pub fn parts(&self) -> &[(String, Vec<(String, usize)>)] {
        &self.parts
    }

    /// Returns notes on decisions about the layout, for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the number of training images per class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.train {
            counts[sample.class] += 1;
        }
        counts
    }

    /// Returns warnings: skipped files, unbalanced classes (3 : 1 or more), few validation images (standard error above
    /// 2.5 percentage points).
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = self
            .notes
            .iter()
            .cloned()
            .map(|note| Warning::Layout { note })
            .collect();
        let lines = self.scan.report([]).lines.into_iter();
        warnings.extend(
            lines
                .filter(|line| line.outcome == Outcome::LeftOut)
                .map(|line| Warning::LeftOut { line }),
        );
        let counts = self.class_counts();
        let by_count = |class: &usize| (counts[*class], std::cmp::Reverse(*class));
        let classes = 0..counts.len();
        if let (Some(most), Some(fewest)) = (classes.clone().max_by_key(by_count), classes.min_by_key(by_count))
            && counts[most] >= 3 * counts[fewest]
        {
            warnings.push(Warning::Imbalance {
                largest: self.classes[most].clone(),
                most: counts[most],
                smallest: self.classes[fewest].clone(),
                fewest: counts[fewest],
            });
        }
        let images = self.validation.len();
        let standard_error = standard_error(0.5, images);
        if standard_error > 0.025 {
            warnings.push(Warning::FewValidationImages { images, standard_error });
        }
        warnings
    }
}

/// Returns, in brackets, a class that differs from `class` only in capitalisation or spaces.
fn similar(class: &str, classes: &[String]) -> String {
    let plain = |name: &str| name.trim().to_lowercase();
    let found = classes.iter().find(|known| plain(known) == plain(class));
    found.map_or_else(String::new, |known| format!(" (but `{known}`)"))
}

fn split_off(images: &mut Vec<PathBuf>, class: &str, fraction: f32) -> Result<Vec<PathBuf>> {
    let found = images.len();
    if found < 2 {
        return Err(TrainError::TooFewImages {
            class: class.to_owned(),
            found,
        });
    }
    let count = ((found as f32 * fraction).round() as usize).clamp(1, found - 1);
    Ok(images.split_off(found - count))
}

fn samples(classes: Vec<Vec<PathBuf>>) -> Vec<Sample> {
    let mut samples: Vec<Sample> = (classes.into_iter().enumerate())
        .flat_map(|(class, images)| images.into_iter().map(move |path| Sample { path, class }))
        .collect();
    samples.sort_unstable();
    samples
}
