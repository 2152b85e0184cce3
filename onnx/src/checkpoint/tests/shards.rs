//! Sharded weights are read by their index. Errors name a missing or truncated file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::{Architecture, ImportOptions, import, seeded_backbone};
use super::states::{safetensors, state_dict};
use super::torch_save::{state, zip};
use crate::Tensor;

const NAMES: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.bin"];

/// Writes two files, one as safetensors and one by torch.save, and their index.
fn write(folder: &Path) -> std::path::PathBuf {
    let architecture = Architecture::MobileNetV2;
    let tensors = state_dict(architecture, &seeded_backbone(architecture, 3, 2));
    let (first, second): (BTreeMap<String, Tensor>, BTreeMap<String, Tensor>) =
        tensors.clone().into_iter().partition(|(name, _)| name.len() % 2 == 0);
    fs::write(folder.join(NAMES[0]), safetensors(&first)).expect("it is written");
    fs::write(folder.join(NAMES[1]), zip(&state("", &second))).expect("it is written");
    let places: BTreeMap<_, _> = tensors.keys().map(|name| (name, NAMES[name.len() % 2])).collect();
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": places});
    let path = folder.join("model.safetensors.index.json");
    fs::write(&path, serde_json::to_vec_pretty(&index).expect("it is JSON")).expect("it is written");
    path
}

fn message(path: &Path) -> String {
    import(path, &ImportOptions::default())
        .expect_err("it is refused")
        .to_string()
}

#[test]
fn an_index_reads_all_its_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let backbone = import(&write(folder.path()), &ImportOptions::default()).expect("it is imported");
    let expected = seeded_backbone(Architecture::MobileNetV2, 3, 2);
    assert_eq!(
        (backbone.digest(), backbone.classifier()),
        (expected.digest(), expected.classifier())
    );
}

#[test]
fn a_folder_is_read_by_the_names_that_transformers_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let backbone = import(folder.path(), &ImportOptions::default()).expect("it is imported");
    assert_eq!(
        backbone.digest(),
        seeded_backbone(Architecture::MobileNetV2, 3, 2).digest()
    );
}

#[test]
fn missing_files_truncated_files_and_missing_tensors_are_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = write(folder.path());
    let second = folder.path().join(NAMES[1]);
    let whole = fs::read(&second).expect("it is there");
    fs::write(&second, &whole[..whole.len() / 2]).expect("it is cut");
    let text = message(&index);
    assert!(text.contains(NAMES[1]) && text.contains("hint:"), "{text}");
    fs::remove_file(&second).expect("it is removed");
    let text = message(&index);
    assert!(
        text.contains(&format!(
            "`{}` is listed and missing (1 of 2 files are there)",
            NAMES[1]
        )),
        "{text}"
    );
    fs::write(
        &second,
        safetensors(&BTreeMap::from([("x".to_owned(), Tensor::new([1], vec![0.0]))])),
    )
    .expect("it is written");
    let text = message(&index);
    assert!(
        text.contains(NAMES[1]) && text.contains("the index says that it is in this file"),
        "{text}"
    );
}

#[test]
fn a_single_shard_gives_a_hint_to_the_index() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let text = message(&folder.path().join(NAMES[1]));
    assert!(
        text.contains("hint: this is one of several files: give the index"),
        "{text}"
    );
}

#[test]
fn an_index_cannot_refer_to_another_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = folder.path().join("x.index.json");
    for name in ["../secret", "/etc/passwd", "a/b", "..", "c:\\x"] {
        let text = serde_json::json!({"weight_map": {"a": name}}).to_string();
        fs::write(&index, text).expect("it is written");
        let text = message(&index);
        assert!(text.contains("expected names of files next to it"), "{text}");
    }
}
