//! Layouts of common data sets: splits and classes are detected, or the error asks for a decision.

use std::path::Path;

use super::fixtures::write_image;
use crate::{Dataset, LayoutOptions, Split, SplitOptions, TrainError};

/// Writes an image for each path. `*` stands for three images.
fn write(root: &Path, files: &str) {
    for (index, path) in files.split_whitespace().enumerate() {
        let names: Vec<String> = match path.split_once('*') {
            Some((before, after)) => (0..3).map(|number| format!("{before}{number}{after}")).collect(),
            None => vec![path.to_owned()],
        };
        for (number, name) in names.iter().enumerate() {
            let full = root.join(name);
            if full.extension().is_some_and(|end| end == "png") {
                write_image(&full, index % 3, 10 * index as u64 + number as u64);
            } else {
                std::fs::create_dir_all(full.parent().unwrap()).unwrap();
                std::fs::write(full, "text").unwrap();
            }
        }
    }
}

fn open(files: &str, layout: LayoutOptions) -> Result<Dataset, TrainError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    let options = SplitOptions {
        layout,
        ..SplitOptions::default()
    };
    Dataset::open(folder.path(), &options)
}

/// Returns the classes, and the numbers of images in training, validation and test.
fn summary(dataset: &Dataset) -> String {
    let count = |split| dataset.samples(split).map_or(0, <[_]>::len);
    format!(
        "{} {} {} {}",
        dataset.classes().join(","),
        count(Split::Train),
        count(Split::Validation),
        count(Split::Test)
    )
}

#[test]
fn usual_layouts_are_splits() {
    for (files, expected) in [
        ("cat/*.png dog/*.png", "cat,dog 4 2 0"),
        (
            "Training/cat/*.png Training/dog/*.png Testing/cat/*.png Testing/dog/*.png",
            "cat,dog 4 2 6",
        ),
        (
            "Train/cat/*.png Train/dog/*.png Val/cat/*.png Val/dog/*.png",
            "cat,dog 6 6 0",
        ),
        (
            "trn/cat/*.png trn/dog/*.png dev/cat/*.png dev/dog/*.png tst/cat/*.png",
            "cat,dog 6 6 3",
        ),
        ("train-2017/a/*.png train-2017/b/*.png holdout/a/*.png", "a,b 4 2 3"),
        ("train_set/a/*.png train_set/b/*.png test_set/a/*.png", "a,b 4 2 3"),
        // One folder around all of them, one in between, and both.
        (
            "dataset/train/a/*.png dataset/train/b/*.png dataset/valid/a/*.png",
            "a,b 6 3 0",
        ),
        (
            "seg_train/seg_train/a/*.png seg_train/seg_train/b/*.png seg_test/seg_test/b/*.png",
            "a,b 4 2 3",
        ),
        (
            "images/train/a/*.png images/train/b/*.png images/val/b/*.png labels/train/x.txt",
            "a,b 6 3 0",
        ),
        (
            "x/birds_train/a/*.png x/birds_train/b/*.png x/birds_test/a/*.png",
            "a,b 4 2 3",
        ),
        ("images/a/*.png images/b/*.png readme.txt", "a,b 4 2 0"),
        // Splits below each class.
        ("a/train/*.png b/train/*.png a/test/*.png b/test/*.png", "a,b 4 2 6"),
        // Images for a competition, without labels.
        ("train/a/*.png train/b/*.png test/*.png sample.csv", "a,b 4 2 0"),
        // Annotations next to classes; a test split alone.
        ("a/*.png b/*.png annotations/a.json", "a,b 4 2 0"),
        ("test/a/*.png test/b/*.png", "a,b 0 0 6"),
        // Classes with names of splits: a vehicle, a tube and a station.
        ("train/*.png bus/*.png car/*.png", "bus,car,train 6 3 0"),
        ("test_tube/*.png train_station/*.png", "test_tube,train_station 4 2 0"),
    ] {
        let dataset = open(files, LayoutOptions::default()).unwrap_or_else(|error| panic!("{files}: {error}"));
        assert_eq!(summary(&dataset), expected, "{files}: {:?}", dataset.notes());
    }
    let dataset = open("train/*.png bus/*.png car/*.png", LayoutOptions::default()).unwrap();
    assert!(
        dataset.notes()[0].contains("'train' is a class"),
        "{:?}",
        dataset.notes()
    );
}

#[test]
fn ambiguous_layouts_are_refused_with_a_question() {
    for files in [
        "train/*.png test/*.png",
        "dataset/train/*.png dataset/val/*.png",
        "Training/*.png cat/*.png dog/*.png",
        "test/*.png cat/*.png dog/*.png",
        "train/steam/*.png train/electric/*.png bus/*.png car/*.png",
        "train/a/*.png train/b/*.png training/a/*.png training/b/*.png test/a/*.png",
        "val/a/*.png val/b/*.png validation/a/*.png train/a/*.png train/b/*.png",
        "birds_train/*.png birds_test/*.png",
        "a/train/*.png a/test/*.png b/*.png",
    ] {
        match open(files, LayoutOptions::default()) {
            Err(TrainError::UnclearSplits { hint, .. }) => {
                assert!(hint.contains("--no-splits"), "{hint}");
                assert!(
                    open(
                        files,
                        LayoutOptions {
                            no_splits: true,
                            ..LayoutOptions::default()
                        }
                    )
                    .is_ok()
                );
            }
            other => panic!("{files}: {:?}", other.map(|dataset| summary(&dataset))),
        }
    }
}

#[test]
fn layout_options_take_precedence() {
    let files = "one/a/*.png one/b/*.png two/a/*.png two/b/*.png three/a/*.png";
    let splits = |list: &[(Split, &str)]| LayoutOptions {
        splits: list.iter().map(|(split, folder)| (*split, folder.into())).collect(),
        ..LayoutOptions::default()
    };
    let dataset = open(files, splits(&[(Split::Train, "one"), (Split::Test, "two")])).unwrap();
    assert_eq!(summary(&dataset), "a,b 4 2 6");
    let dataset = open(
        files,
        splits(&[
            (Split::Train, "one"),
            (Split::Train, "two"),
            (Split::Validation, "three"),
        ]),
    )
    .unwrap();
    assert_eq!(summary(&dataset), "a,b 12 3 0");
    let below = "a/left/*.png b/left/*.png a/right/*.png b/right/*.png";
    let dataset = open(below, splits(&[(Split::Train, "left"), (Split::Test, "right")])).unwrap();
    assert_eq!(summary(&dataset), "a,b 4 2 6");
    let error = open(files, splits(&[(Split::Train, "four")])).unwrap_err().to_string();
    assert!(error.contains("'four'") && error.contains("one, three, two"), "{error}");
}

#[test]
fn similar_names_are_reported_in_notes_and_errors() {
    let dataset = open("Cat/*.png cat/*.png dog/*.png", LayoutOptions::default()).unwrap();
    assert!(
        dataset.notes().iter().any(|note| note.contains("'Cat' and 'cat'")),
        "{:?}",
        dataset.notes()
    );
    let error = open(
        "train/cat/*.png train/dog/*.png test/Cat/*.png",
        LayoutOptions::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("(but `cat`)"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_class_name_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "cat/*.png dog/*.png");
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    write_image(&folder.path().join(name).join("a.png"), 0, 5);
    let error = Dataset::open(folder.path(), &SplitOptions::default()).unwrap_err();
    assert!(
        matches!(error, TrainError::ClassName { .. }) && error.to_string().contains("caf\\xE9"),
        "{error}"
    );
}

#[test]
fn a_single_file_is_scanned_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.png");
    write_image(&file, 0, 1);
    let scan = crate::Scan::of(&file).unwrap();
    assert_eq!(scan.images(), [file]);
    assert!(crate::Scan::of(&folder.path().join("none")).is_err());
}
