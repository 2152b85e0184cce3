//! A data set: classes, and the pictures of each split.

use std::path::{Path, PathBuf};

use rand::seq::SliceRandom as _;

use super::{
    Unreadable, Warning,
    scan::{ClassFolder, class_folders, folders},
};
use crate::{
    error::{Result, TrainError},
    random::{Purpose, stream},
    uncertainty::standard_error,
};

/// One labelled picture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// From the data set's root.
    pub path: PathBuf,
    /// Index into [`Dataset::classes`].
    pub class: usize,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// What is learned from.
    Train,
    /// What choices are made on; disjoint from the others.
    Validation,
    /// What is only measured, if the data set has it.
    Test,
}

impl Split {
    /// `train`, `validation` or `test`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// How training pictures are divided where the folders do not say so.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitOptions {
    /// Share of each class that validates, in 0–0.9 exclusive; used only without a `val/` folder.
    pub validation_fraction: f32,
    /// Decides which pictures those are.
    pub seed: u64,
    /// Keep at most this many training and validation pictures together, classes in proportion (for studies).
    pub limit: Option<usize>,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self {
            validation_fraction: 0.2,
            seed: 0,
            limit: None,
        }
    }
}

/// Class folders with pictures, split into training, validation and, if there is a folder for it, test.
#[derive(Clone, Debug)]
pub struct Dataset {
    root: PathBuf,
    classes: Vec<String>,
    train: Vec<Sample>,
    validation: Vec<Sample>,
    test: Option<Vec<Sample>>,
    unreadable: Vec<Unreadable>,
}

impl Dataset {
    /// Reads the folders under `root`: either one folder per class, or `train/`, optionally `val/` (`valid/`,
    /// `validation/`) and optionally `test/`, each with class folders. Nested folders belong to their class; hidden files
    /// and other file types are ignored; files that are no pictures are listed in [`Dataset::unreadable`].
    ///
    /// No test split is ever invented: without `test/` there is none.
    pub fn open(root: &Path, options: &SplitOptions) -> Result<Self> {
        if !(options.validation_fraction > 0.0 && options.validation_fraction < 0.9) {
            return Err(TrainError::InvalidOption {
                option: "validation_fraction",
                expected: "above 0 and below 0.9",
                got: options.validation_fraction.to_string(),
            });
        }
        let top = folders(root)?;
        let has = |name: &str| top.iter().any(|folder| folder == name);
        let split_layout = has("train");
        let prefix = if split_layout {
            Path::new("train")
        } else {
            Path::new("")
        };
        let main = class_folders(root, prefix)?;
        if main.len() < 2 {
            return Err(TrainError::TooFewClasses {
                path: root.join(prefix),
                found: main.len(),
            });
        }
        let classes: Vec<String> = main.iter().map(|folder| folder.class.clone()).collect();
        let mut unreadable = Vec::new();
        let mut take = |folders: Vec<ClassFolder>, prefix: &Path, split: &str| -> Result<Vec<Vec<PathBuf>>> {
            let mut pictures = vec![Vec::new(); classes.len()];
            for folder in folders {
                let class = classes.iter().position(|class| *class == folder.class).ok_or_else(|| {
                    TrainError::UnknownClass {
                        split: split.to_owned(),
                        class: folder.class.clone(),
                    }
                })?;
                if folder.pictures.is_empty() {
                    return Err(TrainError::EmptyClass {
                        path: root.join(prefix).join(&folder.class),
                        class: folder.class,
                        unreadable: folder.unreadable.len(),
                    });
                }
                unreadable.extend(folder.unreadable);
                pictures[class] = folder.pictures;
            }
            Ok(pictures)
        };
        let mut main = take(main, prefix, "train")?;
        let validation_folder = ["val", "valid", "validation"]
            .into_iter()
            .find(|name| split_layout && has(name));
        let validation = match validation_folder {
            Some(name) => Some(take(class_folders(root, Path::new(name))?, Path::new(name), name)?),
            None => None,
        };
        let test = if split_layout && has("test") {
            Some(take(
                class_folders(root, Path::new("test"))?,
                Path::new("test"),
                "test",
            )?)
        } else {
            None
        };

        let total: usize = main.iter().map(Vec::len).sum();
        for (class, pictures) in main.iter_mut().enumerate() {
            pictures.shuffle(&mut stream(options.seed, Purpose::Split, class as u64, 0));
            if let Some(limit) = options.limit {
                let keep = (pictures.len() as f64 * limit as f64 / total as f64).round() as usize;
                pictures.truncate(keep.max(2));
            }
        }
        let validation = match validation {
            Some(validation) => validation,
            None => (main.iter_mut().zip(&classes))
                .map(|(pictures, class)| split_off(pictures, class, options.validation_fraction))
                .collect::<Result<Vec<_>>>()?,
        };
        let test = test.map(samples);
        Ok(Self {
            root: root.to_owned(),
            train: samples(main),
            validation: samples(validation),
            test,
            classes,
            unreadable,
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The class names, sorted; their order is the logits' order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The pictures of a split, sorted by path; an error if the data set has no such split.
    pub fn samples(&self, split: Split) -> Result<&[Sample]> {
        let found = match split {
            Split::Train => Some(&self.train),
            Split::Validation => Some(&self.validation),
            Split::Test => self.test.as_ref(),
        };
        found.map(Vec::as_slice).ok_or_else(|| TrainError::NoSuchSplit {
            path: self.root.clone(),
            split: split.name(),
        })
    }

    /// Whether there is a test split.
    pub fn has_test(&self) -> bool {
        self.test.is_some()
    }

    /// Files that could not be opened as pictures.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Training pictures per class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.train {
            counts[sample.class] += 1;
        }
        counts
    }

    /// Remarks: skipped files, unequal classes (3 : 1 or more), few validation pictures (standard error above 2.5 points).
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> = self.unreadable.iter().cloned().map(Warning::Unreadable).collect();
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
        let pictures = self.validation.len();
        let standard_error = standard_error(0.5, pictures);
        if standard_error > 0.025 {
            warnings.push(Warning::FewValidationPictures {
                pictures,
                standard_error,
            });
        }
        warnings
    }
}

fn split_off(pictures: &mut Vec<PathBuf>, class: &str, fraction: f32) -> Result<Vec<PathBuf>> {
    let found = pictures.len();
    if found < 2 {
        return Err(TrainError::TooFewPictures {
            class: class.to_owned(),
            found,
        });
    }
    let count = ((found as f32 * fraction).round() as usize).clamp(1, found - 1);
    Ok(pictures.split_off(found - count))
}

fn samples(classes: Vec<Vec<PathBuf>>) -> Vec<Sample> {
    let mut samples: Vec<Sample> = (classes.into_iter().enumerate())
        .flat_map(|(class, pictures)| pictures.into_iter().map(move |path| Sample { path, class }))
        .collect();
    samples.sort_unstable();
    samples
}
