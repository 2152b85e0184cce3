//! Data sets: splits and warnings from folders.

use std::{collections::HashSet, fs};

use super::fixtures::{CLASSES, backbone, options, write_classes, write_image};
use crate::{Dataset, RecipeChoice, Split, SplitOptions, TrainError, Warning, train};

fn open(root: &std::path::Path) -> Result<Dataset, TrainError> {
    Dataset::open(root, &SplitOptions::default())
}

#[test]
fn the_split_is_stratified_disjoint_and_depends_on_the_seed_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (class, (name, count)) in CLASSES.iter().zip([40, 20, 10]).enumerate() {
        for index in 0..count {
            write_image(&folder.path().join(name).join(format!("{index}.png")), class, index);
        }
    }
    let dataset = open(folder.path()).unwrap();
    assert_eq!(dataset.class_counts(), [32, 16, 8]);
    let (train, validation) = (
        dataset.samples(Split::Train).unwrap(),
        dataset.samples(Split::Validation).unwrap(),
    );
    assert_eq!(validation.len(), 14);
    let paths: HashSet<_> = train.iter().chain(validation).map(|sample| &sample.path).collect();
    assert_eq!(paths.len(), 70);
    assert_eq!(open(folder.path()).unwrap().samples(Split::Train).unwrap(), train);
    let other = Dataset::open(
        folder.path(),
        &SplitOptions {
            seed: 1,
            ..SplitOptions::default()
        },
    )
    .unwrap();
    assert_ne!(other.samples(Split::Train).unwrap(), train);
    assert!(!dataset.has_test());
    assert!(matches!(
        dataset.samples(Split::Test),
        Err(TrainError::NoSuchSplit { split: "test", .. })
    ));
    let imbalance = dataset
        .warnings()
        .into_iter()
        .find(|warning| matches!(warning, Warning::Imbalance { .. }));
    let expected = "classes are unequal: `across` has 32 training images, `round` has 8";
    assert!(imbalance.unwrap().to_string().starts_with(expected));
    let limited = Dataset::open(
        folder.path(),
        &SplitOptions {
            limit: Some(35),
            ..SplitOptions::default()
        },
    )
    .unwrap();
    assert_eq!(limited.class_counts(), [16, 8, 4]);
}

#[test]
fn split_folders_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 5), ("val", 2), ("test", 3)] {
        write_classes(&folder.path().join(split), count, 0);
    }
    // Nested and hidden files.
    write_image(&folder.path().join("train/across/deeper/a.JPG"), 0, 90);
    write_image(&folder.path().join("train/across/.hidden.png"), 0, 90);
    fs::write(folder.path().join("train/across/notes.txt"), "x").unwrap();
    let dataset = open(folder.path()).unwrap();
    assert_eq!(dataset.classes(), CLASSES);
    let counts = [Split::Train, Split::Validation, Split::Test].map(|split| dataset.samples(split).unwrap().len());
    assert_eq!(counts, [16, 6, 9]);
    write_image(&folder.path().join("test/unknown/a.png"), 0, 91);
    let error = open(folder.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("test/ has class `unknown`, train/ has not"),
        "{error}"
    );
}

#[test]
fn all_formats_are_read_by_content() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), 3, 0);
    for extension in ["jpg", "bmp", "webp", "gif"] {
        write_image(&folder.path().join("round").join(format!("other.{extension}")), 2, 70);
    }
    // A PNG that claims to be a JPEG.
    fs::copy(folder.path().join("round/00.png"), folder.path().join("round/lies.jpg")).unwrap();
    let dataset = open(folder.path()).unwrap();
    assert_eq!(dataset.report(&[], []).count(crate::Outcome::LeftOut), 0);
    let images =
        crate::SplitImages::load(&dataset, Split::Train, backbone().preprocessing(), 1 << 20, &mut ()).unwrap();
    assert!(images.unreadable().is_empty());
    assert_eq!(images.len() + dataset.samples(Split::Validation).unwrap().len(), 14);
}

#[test]
fn unreadable_files_are_reported_and_skipped() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), 10, 0);
    fs::write(folder.path().join("down/empty.png"), "").unwrap();
    fs::write(folder.path().join("down/text.jpg"), "not an image").unwrap();
    // A complete header and half of the data.
    let whole = fs::read(folder.path().join("round/03.png")).unwrap();
    fs::write(folder.path().join("round/03.png"), &whole[..whole.len() / 2]).unwrap();
    let dataset = open(folder.path()).unwrap();
    let mut options = options(RecipeChoice::Fixed(clr_adapters::Recipe::Linear));
    options.test = false;
    let trained = train(&backbone(), &dataset, &options, &mut ()).unwrap();
    let skipped: Vec<String> = (trained.warnings.iter())
        .filter_map(|warning| match warning {
            Warning::Unreadable(file) => Some(file.path.file_name().unwrap().to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(skipped, ["03.png"]);
    let left_out: Vec<&String> = (trained.warnings.iter())
        .filter_map(|warning| match warning {
            Warning::LeftOut { line } => Some(&line.files),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(left_out, ["down/empty.png", "down/text.jpg"]);
    let metrics = trained.adapter.header.metrics.unwrap();
    assert_eq!(metrics.training_images + metrics.validation_images, 29);
}

#[test]
fn unusable_folders_give_clear_errors() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(&folder.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    // If the path ends with a slash, the message contains no double slash.
    let slash = folder.path().join("");
    let error = open(&slash).unwrap_err();
    assert!(matches!(error, TrainError::TooFewClasses { found: 0, .. }), "{error}");
    let expected = format!("folder per class, {}/<class>/*.jpg,", folder.path().display());
    assert!(error.to_string().contains(&expected), "{error}");
    write_classes(folder.path(), 4, 0);
    fs::create_dir(folder.path().join("vacant")).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("class `vacant` has no readable image"),
        "{error}"
    );
    fs::write(folder.path().join("vacant/broken.png"), "x").unwrap();
    assert!(
        open(folder.path())
            .unwrap_err()
            .to_string()
            .contains("(1 unreadable: 1 no image by its content")
    );
    write_image(&folder.path().join("vacant/good.png"), 0, 0);
    assert!(matches!(
        open(folder.path()),
        Err(TrainError::TooFewImages { found: 1, .. })
    ));
    let half = SplitOptions {
        validation_fraction: 0.0,
        ..SplitOptions::default()
    };
    let error = Dataset::open(folder.path(), &half).unwrap_err();
    assert!(matches!(
        error,
        TrainError::InvalidOption {
            option: "validation_fraction",
            ..
        }
    ));
}

#[test]
fn the_data_digest_follows_names_and_contents() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), 4, 0);
    let digest = || {
        let dataset = open(folder.path()).unwrap();
        crate::SplitImages::load(&dataset, Split::Train, backbone().preprocessing(), 0, &mut ())
            .unwrap()
            .digest()
    };
    let first = digest();
    assert_eq!(digest(), first);
    for index in 0..4 {
        write_image(&folder.path().join(format!("across/{index:02}.png")), 0, 60 + index);
    }
    assert_ne!(digest(), first);
}
