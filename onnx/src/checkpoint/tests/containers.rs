//! Containers: tensors written by PyTorch are read with the same values, and damage is an error.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::weights::Weights;
use super::super::{ImportError, ImportOptions, import_bytes, safetensors, torch};
use crate::Tensor;

const LEGACY: [&[u8]; 4] = [
    include_bytes!("fixtures/legacy-protocol2.pth"),
    include_bytes!("fixtures/legacy-protocol3.pth"),
    include_bytes!("fixtures/legacy-protocol4.pth"),
    include_bytes!("fixtures/legacy-protocol5.pth"),
];
const ZIP: [&[u8]; 4] = [
    include_bytes!("fixtures/zip-protocol2.pth"),
    include_bytes!("fixtures/zip-protocol3.pth"),
    include_bytes!("fixtures/zip-protocol4.pth"),
    include_bytes!("fixtures/zip-protocol5.pth"),
];
const SAFETENSORS: &[u8] = include_bytes!("fixtures/tensors.safetensors");

#[derive(serde::Deserialize)]
struct Expected {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Returns all tensors with their values. Two of the fixtures have the nesting and the prefix of a training script.
fn read_all(mut weights: Weights<'_>) -> Result<BTreeMap<String, Tensor>, ImportError> {
    let names: Vec<_> = weights.entries.keys().cloned().collect();
    let plain = |name: &str| name.trim_start_matches("state_dict.module.").to_owned();
    names
        .into_iter()
        .map(|name| Ok((plain(&name), weights.read(&name)?)))
        .collect()
}

fn assert_as_expected(weights: Weights<'_>) {
    let expected: BTreeMap<String, Expected> =
        serde_json::from_str(include_str!("fixtures/tensors.json")).expect("the fixture is JSON");
    let tensors = read_all(weights).expect("every tensor is read");
    assert!(tensors.keys().eq(expected.keys()), "{:?}", tensors.keys());
    for (name, expected) in expected {
        let tensor = &tensors[&name];
        assert_eq!(
            (tensor.shape(), tensor.data()),
            (&expected.shape[..], &expected.values[..]),
            "{name}"
        );
    }
}

#[test]
fn every_protocol_type_and_view_of_the_old_format_agrees_with_pytorch() {
    for bytes in LEGACY {
        assert_as_expected(torch::read_legacy(bytes, "legacy.pth").expect("it is read"));
    }
}

#[test]
fn every_protocol_type_and_view_of_the_zip_format_agrees_with_pytorch() {
    for bytes in ZIP {
        assert_as_expected(torch::read_zip(bytes, "zip.pth").expect("it is read"));
    }
}

#[test]
fn safetensors_agree_with_pytorch() {
    assert!(safetensors::is_safetensors(SAFETENSORS));
    assert_as_expected(safetensors::read(SAFETENSORS, "x.safetensors").expect("it is read"));
}

#[test]
fn every_truncation_is_an_error() {
    for bytes in [LEGACY[0], LEGACY[3], ZIP[0], ZIP[3], SAFETENSORS] {
        for length in 0..bytes.len() {
            let error = match &bytes[..2] {
                b"PK" => torch::read_zip(&bytes[..length], "cut.pth").and_then(read_all).err(),
                b"\x80\x02" | b"\x80\x05" => torch::read_legacy(&bytes[..length], "cut.pth").and_then(read_all).err(),
                _ => safetensors::read(&bytes[..length], "cut.pth").and_then(read_all).err(),
            };
            let message = error
                .unwrap_or_else(|| panic!("{length} bytes were accepted"))
                .to_string();
            assert!(message.starts_with("cut.pth: "), "{message}");
        }
    }
}

#[test]
fn a_changed_weight_in_a_zip_is_detected() {
    let at = ZIP[0]
        .windows(4)
        .position(|bytes| bytes == 2.5_f32.to_le_bytes())
        .expect("the scalar is there");
    let mut bytes = ZIP[0].to_vec();
    bytes[at] ^= 1;
    let error = torch::read_zip(&bytes, "flipped.pth")
        .and_then(read_all)
        .expect_err("it is refused");
    assert!(
        matches!(&error, ImportError::Tensor { tensor, .. } if tensor == "scalar"),
        "{error}"
    );
}

#[test]
fn a_small_storage_cannot_unfold_to_a_large_tensor() {
    // The strides of `view.repeated` are (0, 0), so its shape can be changed to 255 × 255 elements.
    let pattern = b"K\x02K\x03\x86q"; // shape (2, 3) of the first such tensor
    let mut bytes = LEGACY[0].to_vec();
    let at = bytes
        .windows(pattern.len())
        .rposition(|window| window == pattern)
        .expect("the shape is there");
    bytes[at + 1] = 255;
    bytes[at + 3] = 255;
    let error = torch::read_legacy(&bytes, "bomb.pth")
        .and_then(read_all)
        .expect_err("it is refused");
    assert!(
        matches!(
            error,
            ImportError::TooLarge {
                what: "elements of all tensors",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn files_that_are_not_checkpoints_are_refused_with_a_reason() {
    let options = ImportOptions::default();
    let cases: [(&[u8], &str); 7] = [
        (b"", "an empty file"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x80\x02}.", "not one of torch.save"),
        (b"\x80\x02cos\nsystem\n.", "refers to `os.system`"),
        (b"PK\x03\x04", "zip archive"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "without data.pkl"),
        (
            LEGACY[0],
            "architecture not recognised from 12 tensors, the first are bf16, empty",
        ),
    ];
    for (bytes, part) in cases {
        let message = import_bytes(bytes, "some.file", &options).expect_err(part).to_string();
        assert!(
            message.starts_with("some.file: ") && message.contains(part),
            "{message}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn mutated_checkpoints_never_panic(
        which in 0..9_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
    ) {
        let original = LEGACY.into_iter().chain(ZIP).chain([SAFETENSORS]).nth(which).expect("nine files");
        let mut bytes = original.to_vec();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if !keep {
            bytes.remove(cut.index(bytes.len()));
        }
        let _ = torch::read_legacy(&bytes, "").and_then(read_all);
        let _ = torch::read_zip(&bytes, "").and_then(read_all);
        let _ = safetensors::read(&bytes, "").and_then(read_all);
    }
}
