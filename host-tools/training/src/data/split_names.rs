//! Names of split folders, such as `Training`, `val_images` or `testset`.

use super::Split;

const TRAIN: [&str; 6] = ["train", "training", "trn", "learn", "learning", "trainval"];
const VALIDATION: [&str; 10] = [
    "val",
    "valid",
    "validation",
    "validate",
    "validating",
    "dev",
    "devel",
    "development",
    "eval",
    "evaluation",
];
const TEST: [&str; 6] = ["test", "testing", "tst", "tests", "holdout", "heldout"];

/// Filler words in names of splits.
const FILLERS: [&str; 39] = [
    "set",
    "sets",
    "data",
    "dataset",
    "datasets",
    "image",
    "images",
    "img",
    "imgs",
    "picture",
    "pictures",
    "pic",
    "pics",
    "photo",
    "photos",
    "split",
    "splits",
    "seg",
    "folder",
    "dir",
    "files",
    "sample",
    "samples",
    "subset",
    "part",
    "cls",
    "class",
    "classes",
    "classification",
    "the",
    "original",
    "final",
    "full",
    "cropped",
    "resized",
    "new",
    "raw",
    "processed",
    "x",
];

/// Returns the split that a folder's name denotes, and the other words of the name without fillers.
pub(super) fn split_of(name: &str) -> Option<(Split, String)> {
    let words = words(name);
    let (mut found, mut rest) = (Vec::new(), Vec::new());
    for word in &words {
        match role(word) {
            Some(role) => found.push(role),
            None if is_filler(word) => {}
            None => rest.push(word.as_str()),
        }
    }
    found.dedup();
    let split = match found[..] {
        [split] => split,
        [Split::Train, Split::Validation] => Split::Train,
        [Split::Validation, Split::Test] | [Split::Test, Split::Validation] => Split::Test,
        _ => return None,
    };
    Some((split, rest.join(" ")))
}

/// Returns whether a name consists only of filler words such as `images` and `dataset`.
pub(super) fn is_filler_name(name: &str) -> bool {
    let words = words(name);
    !words.is_empty() && words.iter().all(|word| is_filler(word))
}

fn role(word: &str) -> Option<Split> {
    let of = |word: &str| {
        let roles = [
            (&TRAIN[..], Split::Train),
            (&VALIDATION, Split::Validation),
            (&TEST, Split::Test),
        ];
        roles
            .into_iter()
            .find(|(words, _)| words.contains(&word))
            .map(|(_, role)| role)
    };
    // `trainset`, `testimages`.
    let joined = || {
        let ends = FILLERS.iter().filter(|filler| filler.len() > 2);
        ends.filter_map(|filler| word.strip_suffix(filler)).find_map(of)
    };
    of(word).or_else(joined)
}

fn is_filler(word: &str) -> bool {
    FILLERS.contains(&word) || word.chars().all(|character| character.is_ascii_digit())
}

/// Returns the words of a name in lower case. It is divided at punctuation, at digits, and at capitals after lower-case
/// letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for character in name.chars() {
        let digits = character.is_ascii_digit() != before.is_ascii_digit();
        let capital = character.is_uppercase() && before.is_lowercase();
        if !character.is_alphanumeric() || capital || digits {
            words.push(String::new());
        }
        if character.is_alphanumeric() {
            words.last_mut().expect("a word").extend(character.to_lowercase());
        }
        before = character;
    }
    words.retain(|word| !word.is_empty());
    // `hold-out`, `held_out`.
    for at in (1..words.len()).rev() {
        if words[at] == "out" && ["hold", "held"].contains(&&*words[at - 1]) {
            words.splice(at - 1..=at, ["holdout".to_owned()]);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_spellings_are_splits() {
        for (split, names) in [
            (
                Split::Train,
                "train training Train TRAIN trn learn train_set train-2017 train2017 trainset TrainingSet train_images \
                 images_train seg_train Train_Images train.data 01_train trainval train_val train(1)",
            ),
            (
                Split::Validation,
                "val valid Validation VAL dev eval validation_set val2017 ValSet validset dev-set evaluation",
            ),
            (
                Split::Test,
                "test testing Testing TEST tst holdout hold-out held_out test_set test1 TestImages test-dev seg_test",
            ),
        ] {
            for name in names.split_whitespace() {
                assert_eq!(split_of(name), Some((split, String::new())), "{name}");
            }
        }
    }

    #[test]
    fn other_words_remain_and_other_names_are_not_splits() {
        assert_eq!(split_of("birds_train"), Some((Split::Train, "birds".to_owned())));
        assert_eq!(split_of("test tube"), Some((Split::Test, "tube".to_owned())));
        for name in [
            "cat",
            "trains",
            "rain",
            "valley",
            "contest",
            "devil",
            "device",
            "latest",
            "train_test_split",
            "images",
        ] {
            assert_eq!(split_of(name), None, "{name}");
        }
        assert!(is_filler_name("Images_2") && !is_filler_name("cat images"));
    }
}
